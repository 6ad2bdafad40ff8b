"""nginx and HAProxy as they are in front of real nodes."""
