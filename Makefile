# Each target is one command that can be typed as well.
.PHONY: test race lint bench ci

test:
	go test work

race:
	go test -race work

lint:
	bash .ci/run format tidy vet lint

bench:
	cd bench && go run .

ci:
	bash .ci/run
