// Package check judges what clients of etcd saw. It takes what was recorded
// while a program ran, under faults or not, and says whether etcd's guarantees
// held for those who looked through that program:
//
//   - [History] records reads and writes of many clients, with their times and
//     what the clients were told; [Linearizable] says whether one order of
//     them explains all answers;
//   - [ReadLog] reads every change of a prefix that a member has stored, and
//     [Watch] holds what one watcher was given; [Watch.Check] compares the two;
//   - a [Hold] is one time that a client held a lock or led an election; [Exclusive],
//     [Granted] and [Fenced] judge them by the clock and by the store, and
//     [Conserved] judges transactions that move numbers about;
//   - a [Standing] and a [Passage] are times at a barrier, a [Stay] is one at a double
//     barrier; [Stopped] and [Together] judge them by the clock;
//   - a [Txn] is one transaction with what it has read; [Serializable] says whether
//     one order of them explains all that was read.
//
// A checker is only worth what it catches: the tests of this package show for
// each guarantee a history that breaks it and is caught.
package check
