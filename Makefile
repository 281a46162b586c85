# The one front door. Everything longer than a line lives in xtask.
CARGO ?= cargo

.PHONY: help run test check bench load docs clean

help:
	@echo 'make run     build Hubbub and start it on http://127.0.0.1:8080, with its data in ./data'
	@echo 'make test    run every test of the workspace and print one total'
	@echo 'make check   format, lint and tidy: what a reviewer would otherwise have to say'
	@echo 'make bench   measure the bare commit and the other bare loops that figures are compared with'
	@echo 'make load    start a server and put a thousand talking people on it for twenty seconds'
	@echo 'make docs    write the generated pages and tables anew'
	@echo 'make clean   remove what was built; ./data stays'

run:
	$(CARGO) run --release --package hubbub -- run --data ./data

test:
	@$(CARGO) xtask test

check:
	@$(CARGO) xtask check

bench:
	@$(CARGO) xtask bench

load:
	@$(CARGO) xtask load

docs:
	@$(CARGO) xtask docs

clean:
	$(CARGO) clean
