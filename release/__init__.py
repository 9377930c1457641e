"""From a commit to production: plan, bundle, image, canary, rollback."""
