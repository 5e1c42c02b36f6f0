// Package services gives what runs long in a program a life: it is started
// once, watched, restarted when it fails, and stopped once.
//
// Most programs need three names. [New] makes a [Service] of a function that
// runs until its context ends, and calls it again when it fails, under the
// same retry policies that reprise uses for calls. [HealthChecker] asks the
// services how they are and answers /livez, /readyz and /healthz. [Run] starts
// everything, waits for a signal, drains, and closes in reverse:
//
//	checker := services.NewChecker("", "")
//	feeder := services.New(services.Config{
//		Name: "feeder",
//		Run:  func(ctx context.Context, status *services.Status) error { … },
//		Restart: func() reprise.Retryer {
//			return reprise.OnErrorFunc(reprise.Backoff{}, func(error) bool { return true })
//		},
//	})
//	web := services.New(services.Config{Name: "web", … }) // serves checker.Handler()
//	err := services.Run(ctx, services.RunConfig{Checker: checker, Drain: 5 * time.Second}, feeder, web)
//
// Below them are the parts that one can use alone: [StateMachine] for services
// written by hand, [MultiStart] and [CloseAll] for several at once, [StopChan]
// for contexts that end with a channel, [ErrorBuffer] for the last errors.
//
// Package servicetest runs a service in a test, package grpchealth serves the
// checker's answers as the standard gRPC health service, and package
// otelcall/otelhealth records them as OpenTelemetry metrics.
//
// The package is not a scheduler, a dependency injector or a logger, and it
// knows no etcd: a watch, a session or an election becomes a service by being
// called from Run. It imports package reprise, and with it compiles gRPC in,
// even where a program makes no RPC.
package services
