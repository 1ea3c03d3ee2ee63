"""What a key of another trainer, or a slip of the pen, is called here. Words only: imports nothing of this project.

`hint_for("learning_rate")` is `called learner.lr here`. TRL, verl, axolotl and LLaMA-Factory are the trainers whose
names stand here.
"""

from __future__ import annotations

ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("learning_rate", "actor_lr"), "learner.lr"),
    **dict.fromkeys(("weight_decay_rate", "wd"), "learner.weight_decay"),
    **dict.fromkeys(("max_gradient_norm", "grad_clip", "gradient_clipping", "clip_grad"), "learner.max_grad_norm"),
    **dict.fromkeys(("warmup", "lr_warmup_steps", "num_warmup_steps"), "learner.warmup_steps"),
    **dict.fromkeys(("warmup_ratio", "lr_warmup_steps_ratio"), "learner.warmup_steps, a number of steps"),
    **dict.fromkeys(("gradient_accumulation_steps", "per_device_train_batch_size", "micro_batch_size",
                     "ppo_micro_batch_size_per_gpu"), "learner.micro_batch_groups or learner.micro_batch_tokens"),
    **dict.fromkeys(("optim", "optimizer_name"), "learner.optimizer"),
    **dict.fromkeys(("num_gpus", "n_gpus_per_node", "world_size"), "learner.ranks and rollout.engines"),
    **dict.fromkeys(("zero", "deepspeed", "zero_optimization"), "learner.zero_stage"),
    **dict.fromkeys(("max_completion_length", "max_new_tokens", "max_response_length", "response_length"),
                    "rollout.max_tokens"),
    **dict.fromkeys(("max_length", "cutoff_len", "sequence_len"), "rollout.max_model_len, with the response"),
    **dict.fromkeys(("num_generations", "n", "num_return_sequences", "rollout_n", "G"), "rollout.group_size"),
    **dict.fromkeys(("train_batch_size", "batch_size", "generation_batch_size"), "rollout.prompts_per_step"),
    **dict.fromkeys(("gpu_memory_utilization", "vllm_gpu_memory_utilization"), "rollout.options.gpu_memory_share"),
    **dict.fromkeys(("tensor_model_parallel_size", "tensor_parallel_size", "tp"), "rollout.tensor_parallel"),
    "use_vllm": "rollout.backend=vllm",
    **dict.fromkeys(("epsilon", "clip_range", "cliprange", "clip_ratio"),
                    "algorithm.options.clip_low and algorithm.options.clip_high"),
    **dict.fromkeys(("epsilon_high", "clip_ratio_high"), "algorithm.options.clip_high"),
    **dict.fromkeys(("epsilon_low", "clip_ratio_low"), "algorithm.options.clip_low"),
    **dict.fromkeys(("beta", "kl_coef", "kl_loss_coef", "kl_coeff", "init_kl_coef"), "algorithm.options.kl_beta"),
    **dict.fromkeys(("num_iterations", "ppo_epochs", "mu"), "algorithm.options.updates_per_batch"),
    **dict.fromkeys(("loss_type", "loss_agg_mode"), "algorithm.options.aggregation"),
    **dict.fromkeys(("gamma",), "algorithm.options.discount"),
    **dict.fromkeys(("lam", "lambda", "gae_lambda"), "algorithm.options.trace"),
    **dict.fromkeys(("adv_estimator", "algo"), "algorithm.name"),
    **dict.fromkeys(("save_total_limit", "max_ckpt_to_keep", "save_limit"), "run.keep_last"),
    **dict.fromkeys(("save_steps", "save_freq", "save_interval"), "run.checkpoint_every"),
    "load_best_model_at_end": "run.keep_best, the name of a metric",
    **dict.fromkeys(("max_steps", "total_training_steps", "num_train_steps"), "run.steps"),
    **dict.fromkeys(("num_train_epochs", "epochs", "num_epochs", "total_epochs"), "run.steps, a number of batches"),
    **dict.fromkeys(("output_dir", "default_local_dir"), "run.root and run.name"),
    **dict.fromkeys(("run_name", "experiment_name"), "run.name"),
    "resume_from_checkpoint": "run.resume=true",
    **dict.fromkeys(("model_name_or_path", "base_model", "pretrained_model_name_or_path", "model_path"),
                    "policy.model"),
    **dict.fromkeys(("bf16", "fp16", "torch_dtype"), "policy.dtype"),
    **dict.fromkeys(("lora_r", "lora_rank", "r"), "policy.lora.rank"),
    "lora_alpha": "policy.lora.alpha",
    **dict.fromkeys(("load_in_4bit", "qlora", "use_qlora", "quantization_bit"), "policy.lora.four_bit"),
    **dict.fromkeys(("target_modules", "lora_target_modules", "lora_target"), "policy.lora.targets"),
    **dict.fromkeys(("attn_implementation", "flash_attention"), "policy.attention"),
    **dict.fromkeys(("dataset", "dataset_name", "train_files", "datasets"),
                    "data.source and data.options.annotations"),
    **dict.fromkeys(("reward_funcs", "reward_fn", "reward_function", "custom_reward_function"),
                    "reward.routes, each with its scorers"),
    **dict.fromkeys(("reward_weights",), "the weights beside the scorers of reward.routes"),
    **dict.fromkeys(("lr_scheduler", "lr_scheduler_type", "scheduler"), "learner.schedule"),
    "max_prompt_length": "data.max_prompt_tokens",
    "filter_overlong_prompts": "data.max_prompt_tokens",
    **dict.fromkeys(("report_to", "logger", "use_wandb"), "run.trackers"),
    **dict.fromkeys(("eval_steps", "test_freq", "eval_interval"), "evaluation.held_out_every"),
}  # fmt: skip
"""A name elsewhere, and what says the same here."""


def hint_for(name: str) -> str | None:
    """The key that says here what a key of another trainer says there; None where none is known."""
    return None if name not in ELSEWHERE else f"called {ELSEWHERE[name]} here"
