// Package gaxcall joins Reprise and gax-go: options of either can be used with
// the other. It is for programs that call generated Google clients, whose
// methods take gax call options, and for those that move from gax-go to
// Reprise step by step. Code that calls gax.Invoke itself needs no bridge: it
// compiles against package reprise with its import path changed.
//
// A generated client under a Reprise policy:
//
//	policy, err := gaxcall.ToGAX(reprise.Recommended())
//	if err != nil {
//		return err
//	}
//	op, err := client.GetOperation(ctx, req, policy)
//
// The package is apart from package reprise because gax-go brings many
// packages along.
package gaxcall
