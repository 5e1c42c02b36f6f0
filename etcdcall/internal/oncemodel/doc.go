// Package oncemodel holds an exhaustive model of the protocol behind
// etcdcall's exactly-once writes; it consists of tests only.
//
// The model has clients, a server with leases, slots and one user key, a
// network that keeps every message for as long as it likes and delivers some
// twice, a clock, lease expiry in two steps, crashes of clients, a user's
// lease that comes and goes, a store that runs out of space, and an outsider
// who deletes a slot. A
// breadth-first search visits every state within the bounds and checks in each
// that no call was applied twice, that an acknowledged call was applied with
// the response reported, that a call reported as not applied never is, and
// that no outcome is called unknown without need.
//
// Every rule of the protocol can be left out by a switch. The tests assert
// that the protocol as it stands has no violation and that each protocol with
// one rule left out has one; the shortest run to it is logged.
//
// docs/exactly-once.md describes the protocol.
package oncemodel
