#!/usr/bin/env bash
# Replaces the tags of base images in docker/ by tag and digest, where a network and Docker's buildx are at hand: a tag may
# be moved, a digest cannot. Prints what it wrote. `git checkout docker/` takes it back.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

digest() { docker buildx imagetools inspect "$1" --format '{{.Manifest.Digest}}'; }

for file in Dockerfile.* compose.yaml; do
    grep -hoE '^(FROM|    image:) [^ @]+$' "$file" | awk '{print $2}' | sort -u | while read -r image; do
        case $image in autodriverl*) continue ;; esac
        found=$(digest "$image")
        sed -i -E "s#^((FROM|    image:) $image)\$#\1@$found#" "$file"
        echo "$file: $image@$found"
    done
done
