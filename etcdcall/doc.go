// Package etcdcall makes calls to etcd that ride through leader changes, lost
// connections and restarts of members, and that never apply a write twice.
//
// [New] takes the place of clientv3.New and returns a *clientv3.Client; nothing
// else in the caller's code changes:
//
//	cli, err := etcdcall.New(clientv3.Config{Endpoints: endpoints})
//	if err != nil {
//		return err
//	}
//	defer cli.Close()
//
//	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
//	defer cancel()
//	_, err = cli.Put(ctx, "greeting", "hello")
//	switch etcdcall.OutcomeOf(err) {
//	case etcdcall.Applied: // err is nil
//	case etcdcall.NotApplied: // err says why; the store is as it was
//	case etcdcall.Unknown: // read it back before doing it again
//	}
//
// A failed call is judged by one table, which docs/etcd-errors.md shows: for
// every error of etcd and of the transport it says whether the request was
// applied, and what becomes of a read and of a write. Reads, read-only
// transactions among them, are retried until the call's deadline. Writes are
// retried exactly when they were certainly not applied; a write of which that
// is not known ends with an [AmbiguousError], unless the client was made
// [WithExactlyOnce], which makes repeating it safe. Whether a request was sent
// at all is observed in the transport (see [DialOptions]), not guessed from
// texts.
//
// Linearizable calls ask the server to refuse them at once while it knows of no
// leader, which makes the outcome of a write certain where it would otherwise
// hang for seconds and end unknown. See [WithoutRequireLeader].
//
// Stubs written by hand get the same judgement from [DialOptions], [OnReads],
// [OnWrites] and [OutcomeOf]:
//
//	conn, err := grpc.NewClient(target, append(opts, etcdcall.DialOptions()...)...)
//	put := reprise.NewUnary(pb.NewKVClient(conn).Put,
//		reprise.WithRetry(func() reprise.Retryer { return etcdcall.OnWrites(backoff) }))
//
// The package is not for the server side, and not for calls to services other
// than etcd: their errors mean other things.
package etcdcall
