"""A Kubernetes cluster of one's own on one Linux machine, made of what the public package registries carry."""
