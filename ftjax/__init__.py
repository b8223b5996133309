"""ftjax: fine-tune pretrained models in JAX."""
