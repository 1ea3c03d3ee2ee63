"""DriveBench's 15 corruptions: what each does to an image, a frame or a clip, and copies of whole image trees."""
