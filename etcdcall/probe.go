package etcdcall

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ConfigurationError reports what this package cannot work with: a client on
// which [Wrap] cannot build, an interface that is not of this package, or an
// option that makes no sense.
type ConfigurationError struct {
	// Problem says what is wrong, and what to do.
	Problem string
}

// Error says what is wrong, and what to do.
func (e *ConfigurationError) Error() string { return "etcdcall: " + e.Problem }

// notConfigured is the error of [Wrap].
func notConfigured(problem string) error {
	return &ConfigurationError{Problem: problem + "; make the client from etcdcall.Configure"}
}

// probeMethod is a method that recordAttempt answers itself, so that it never
// reaches a server.
const probeMethod = "/reprise.etcdcall.Probe/Probe"

// probeTimeout is a bound for a client with a long pause between its own tries.
const probeTimeout = time.Second

// errProbe is a status that clientv3's own retry takes for a reason to try
// again, even for a write.
var errProbe = status.Error(codes.DeadlineExceeded, "etcdcall: probe")

// errProbeAgain ends the tries of a client whose own retry is on.
var errProbeAgain = status.Error(codes.Aborted, "etcdcall: probed twice")

// probe counts how often a call under its context reached recordAttempt.
type probe struct{ seen int }

type probeKey struct{}

func answerProbe(ctx context.Context) error {
	p, ok := ctx.Value(probeKey{}).(*probe)
	if !ok {
		return status.Error(codes.Unimplemented, "etcdcall: "+probeMethod+" is answered to Wrap only")
	}
	if p.seen++; p.seen > 1 {
		return errProbeAgain
	}
	return errProbe
}

// checkConfigured finds out, without the network, whether the attempts of cli
// are recorded and whether its own retry is off.
func checkConfigured(cli *clientv3.Client) error {
	if cli == nil || cli.ActiveConnection() == nil {
		return notConfigured("the client has no connection")
	}
	conn := cli.ActiveConnection()
	var p probe
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), probeKey{}, &p), probeTimeout)
	defer cancel()

	// First on a dead context: a connection without recordAttempt would send
	// the probe.
	dead, kill := context.WithCancel(ctx)
	kill()
	_ = conn.Invoke(dead, probeMethod, nil, nil)
	if p.seen == 0 {
		return notConfigured("the client's connection lacks etcdcall.DialOptions")
	}
	p.seen = 0
	if err := conn.Invoke(ctx, probeMethod, nil, nil); !errors.Is(err, errProbe) {
		return notConfigured("the client retries on its own (MaxUnaryRetries is not 1)")
	}
	return nil
}
