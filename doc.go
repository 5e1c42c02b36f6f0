// Package reprise makes calls that may fail: it runs a context-aware call
// under settings built from options, asks a Retryer whether a failure may be
// tried again, waits a jittered pause, and stops in time, with an error that
// says what happened.
//
// Any function can be called under a policy:
//
//	user, err := reprise.Do(ctx, func(ctx context.Context) (*User, error) {
//		return db.User(ctx, id)
//	}, reprise.WithRetry(policy), reprise.WithTimeout(5*time.Second))
//
// where policy makes a Retryer for each call:
//
//	func policy() reprise.Retryer {
//		return reprise.OnCodes([]codes.Code{codes.Unavailable}, reprise.Backoff{
//			Initial: 50 * time.Millisecond,
//			Max:     2 * time.Second,
//		})
//	}
//
// A gRPC method is best bound to its policy once, where the client is made:
//
//	get := reprise.NewUnary(pb.NewStoreClient(conn).Get, reprise.WithRetry(policy))
//	resp, err := get.Call(ctx, &pb.GetRequest{Key: "k"})
//
// The package keeps the API of gax-go 2.0.4: code written for it compiles
// against this package. It is not for servers, and not for queues whose
// entries outlive the process.
package reprise
