# Short names for the scripts of launch/. They make .venv where it is missing.
.PHONY: setup test fast lint docs quickstart
setup:
	bash launch/development.sh
test:
	bash launch/test.sh
fast:
	bash launch/test.sh -m "not slow"
lint:
	bash launch/lint.sh
docs:
	EXTRAS=docs bash -c 'source launch/development.sh && mkdocs build'
quickstart:
	bash launch/quickstart.sh
