// Package etcdtest runs a real etcd cluster in the process of a test.
package etcdtest
