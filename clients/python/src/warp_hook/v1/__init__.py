"""Generated stubs of proto/warp/hook/v1/hook.proto (python scripts/generate.py)."""
