"""Jobs on Kubernetes, against a real API server; what else a cluster has is played by the tests."""
