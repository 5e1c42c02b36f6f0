package etcdcall

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// serverByMessage finds the rule for what a server answered.
var serverByMessage = indexServerRules()

func indexServerRules() map[string]*rule {
	index := make(map[string]*rule, len(serverRules))
	for i := range serverRules {
		r := &serverRules[i]
		if r.server != nil {
			r.message = rpctypes.ErrorDesc(r.server)
		}
		index[r.message] = r
	}
	return index
}

// classify finds the row of the table that fits err, which must not be nil.
// Exactly one row fits every error; the last one fits all.
func classify(err error) *rule {
	unsent := false
	if a, ok := errors.AsType[*attemptError](err); ok {
		err, unsent = a.raw, !a.sent
	}
	code, message := codeAndMessage(err)
	if r := serverByMessage[message]; r != nil && (!unsent || r.applied == NotApplied) {
		return r
	}
	for i := range transportRules {
		if t := &transportRules[i]; t.fits(code, message, unsent) {
			return &t.rule
		}
	}
	return &transportRules[len(transportRules)-1].rule
}

func (t *transportRule) fits(code codes.Code, message string, unsent bool) bool {
	return (t.anyCode || t.code == code) &&
		(unsent || !t.unsent) &&
		(t.text == "" || strings.Contains(message, t.text))
}

// codeAndMessage reads err as what it was on the wire. The order matters: an
// rpctypes.EtcdError is no gRPC status and would read as code Unknown, and a
// bare context error has lost its status on the way through clientv3.
func codeAndMessage(err error) (codes.Code, string) {
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code(), e.Error()
	}
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		if st := s.GRPCStatus(); st != nil {
			return st.Code(), st.Message()
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded, err.Error()
	case errors.Is(err, context.Canceled):
		return codes.Canceled, err.Error()
	default:
		return codes.Unknown, err.Error()
	}
}
