// Package integration holds the tests of Reprise that need a real etcd server.
// It exports nothing; package etcdtest, beside it, is for everybody.
//
// Tests are short by default. With -campaign they run as long as it takes to
// be convinced:
//
//	go test -campaign -run Linearizable .
package integration
