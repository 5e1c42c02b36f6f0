// Package watch is the engine of watches: it holds all watches of a client on as few
// streams as it can, keeps these open, takes every watch up again where it was when a
// stream breaks, and queues what comes for readers that may be slow. A watch that the
// server ends, or whose store is no longer the one it was, it breaks.
//
// What a user sees, the options, the errors, the iterators, clientv3.Watcher, is
// package etcdcall's.
package watch
