test:
	python3 -m tests.all

.PHONY: test
