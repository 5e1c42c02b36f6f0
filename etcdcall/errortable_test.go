package etcdcall

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var update = flag.Bool("update", false, "write docs/etcd-errors.md from the table")

func TestEveryErrorOfRpctypesHasARow(t *testing.T) {
	t.Parallel()
	declared := rpctypesMessages(t)
	if len(declared) < 60 {
		t.Fatalf("found only %d errors in the source of rpctypes", len(declared))
	}
	for name, message := range declared {
		if serverByMessage[message] == nil {
			t.Errorf("%s (%q) has no row", name, message)
		}
	}
}

// rpctypesMessages reads the messages of all ErrGRPC variables from the source
// of the package, so that an error that a later release adds cannot be missed.
func rpctypesMessages(t *testing.T) map[string]string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "go.etcd.io/etcd/api/v3/v3rpc/rpctypes").Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "error.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	messages := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "ErrGRPC") {
			return true
		}
		if call, ok := spec.Values[0].(*ast.CallExpr); ok && len(call.Args) == 2 {
			if lit, ok := call.Args[1].(*ast.BasicLit); ok {
				messages[spec.Names[0].Name], _ = strconv.Unquote(lit.Value)
			}
		}
		return true
	})
	return messages
}

func TestARowIsFoundByItsMessageWhateverTheCode(t *testing.T) {
	t.Parallel()
	for i := range serverRules {
		want := &serverRules[i]
		for _, code := range []codes.Code{codes.Unknown, codes.Unavailable, codes.FailedPrecondition} {
			if got := classify(status.Error(code, want.message)); got != want {
				t.Errorf("%s with code %v: found %q", want.name, code, got.name)
			}
		}
		if want.server == nil {
			continue
		}
		for _, err := range []error{want.server, rpctypes.Error(want.server), fmt.Errorf("wrapped: %w", want.server)} {
			if got := classify(err); got != want {
				t.Errorf("%s as %T: found %q", want.name, err, got.name)
			}
		}
	}
}

func TestTheRowsAreConsistent(t *testing.T) {
	t.Parallel()
	rules := make([]*rule, 0, len(serverRules)+len(transportRules))
	for i := range serverRules {
		rules = append(rules, &serverRules[i])
	}
	for i := range transportRules {
		rules = append(rules, &transportRules[i].rule)
	}
	names := map[string]bool{}
	for _, r := range rules {
		if names[r.name] {
			t.Errorf("%s stands twice", r.name)
		}
		names[r.name] = true
		if r.applied == Applied {
			t.Errorf("%s: no error of a server says that the request was applied", r.name)
		}
		if (r.applied == NotApplied) == (r.write == ambiguous) {
			t.Errorf("%s: applied is %v, yet a write is %v", r.name, r.applied, r.write)
		}
		if r.read == ambiguous {
			t.Errorf("%s: a read is never ambiguous", r.name)
		}
		if r.action == "" {
			t.Errorf("%s has no action", r.name)
		}
	}
}

func TestTransportFailures(t *testing.T) {
	t.Parallel()
	unsent := func(err error) error { return &attemptError{raw: err} }
	sent := func(err error) error { return &attemptError{raw: err, sent: true} }
	for _, c := range []struct {
		name        string
		err         error
		applied     Outcome
		read, write verdict
	}{
		{"refused", unsent(status.Error(codes.Unavailable, "connection error: desc = \"transport: Error while dialing: connection refused\"")), NotApplied, retry, retry},
		{"refused, but nobody watched", status.Error(codes.Unavailable, "connection refused"), Unknown, retry, ambiguous},
		{"never connected until the deadline", unsent(status.Error(codes.DeadlineExceeded, "context deadline exceeded while waiting for connections to become ready")), NotApplied, retry, retry},
		{"cancelled while connecting", unsent(status.Error(codes.Canceled, "latest balancer error: refused")), NotApplied, retry, retry},
		{"closed client", unsent(status.Error(codes.Canceled, "grpc: the client connection is closing")), NotApplied, stop, stop},
		{"client closed under way", sent(status.Error(codes.Canceled, "grpc: the client connection is closing")), Unknown, stop, ambiguous},
		{"server answered before it read", unsent(rpctypes.ErrGRPCTimeout), NotApplied, retry, retry},
		{"request too large", unsent(status.Error(codes.ResourceExhausted, "trying to send message larger than max (3 vs. 2)")), NotApplied, stop, stop},
		{"response too large to send", sent(status.Error(codes.ResourceExhausted, "trying to send message larger than max (3 vs. 2)")), Unknown, stop, ambiguous},
		{"response too large to receive", sent(status.Error(codes.ResourceExhausted, "grpc: received message larger than max (3 vs. 2)")), Unknown, stop, ambiguous},
		{"reset", sent(status.Error(codes.Unavailable, "error reading from server: read: connection reset by peer")), Unknown, retry, ambiguous},
		{"keepalive", sent(status.Error(codes.Unavailable, "keepalive ping failed to receive ACK within timeout")), Unknown, retry, ambiguous},
		{"refused stream", sent(status.Error(codes.Unavailable, "stream terminated by RST_STREAM with error code: REFUSED_STREAM")), NotApplied, retry, retry},
		{"cancelled by a hop", sent(status.Error(codes.Canceled, "stream terminated by RST_STREAM with error code: CANCEL")), Unknown, retry, ambiguous},
		{"deadline of a hop", sent(status.Error(codes.DeadlineExceeded, "context deadline exceeded")), Unknown, retry, ambiguous},
		{"calm", sent(status.Error(codes.ResourceExhausted, "stream terminated by RST_STREAM with error code: ENHANCE_YOUR_CALM")), Unknown, retry, ambiguous},
		{"internal", sent(status.Error(codes.Internal, "stream terminated by RST_STREAM with error code: PROTOCOL_ERROR")), Unknown, retry, ambiguous},
		{"no such method", sent(status.Error(codes.Unimplemented, "unknown method Foo")), NotApplied, stop, stop},
		{"a proxy's refusal", sent(status.Error(codes.PermissionDenied, "unexpected HTTP status code received from server: 403 (Forbidden)")), Unknown, stop, ambiguous},
		{"unnamed", sent(status.Error(codes.Unknown, "boom")), Unknown, stop, ambiguous},
		{"no status at all", errors.New("boom"), Unknown, stop, ambiguous},
	} {
		r := classify(c.err)
		if r.applied != c.applied || r.read != c.read || r.write != c.write {
			t.Errorf("%s: %q says applied %v, read %v, write %v; want %v, %v, %v",
				c.name, r.name, r.applied, r.read, r.write, c.applied, c.read, c.write)
		}
	}
}

func TestTheDocumentShowsTheTable(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "docs", "etcd-errors.md")
	want := errorsDocument()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s does not show the table; write it with: go test ./etcdcall -run %s -update", path, t.Name())
	}
}

func errorsDocument() string {
	var b strings.Builder
	b.WriteString(`# What an error of etcd means for a request

This page is made from the table in etcdcall/errortable.go
(` + "`go test ./etcdcall -run TestTheDocumentShowsTheTable -update`" + `), by which etcdcall decides.

*Applied?* says whether a request that got the error had an effect. *Read* and *Write* say what
becomes of a call that changes nothing, and of a write that must not happen twice: it is tried
again (retry, with a number if it is tried only so often), the error is returned (stop), or it is
returned as an AmbiguousError, because the write may have happened and may still happen.
Retries end with the call's deadline, or after 60 s if it has none.

The errors are those of members. Something in between that sends requests again by itself, as
etcd's grpc-proxy and an interceptor that retries do, answers with the error of its last attempt,
which says nothing about the earlier ones.

## What a server answers

Matched by message, since releases differ in the code and some of these arrive as code Unknown.

| error | message | applied? | read | write | action |
|---|---|---|---|---|---|
`)
	for i := range serverRules {
		r := &serverRules[i]
		fmt.Fprintf(&b, "| %s | %s | %v | %s | %s | %s |\n", r.name, r.message, r.applied, word(r.read, r.limit), word(r.write, r.limit), r.action)
	}
	b.WriteString(`
## What the connection, a hop or the client itself says

Tried in this order; the first row that fits counts. "Never sent" is observed in the transport: no
request was handed to it. Without etcdcall.DialOptions that is not known, and the later rows
hold.

| failure | code | never sent | applied? | read | write | action |
|---|---|---|---|---|---|---|
`)
	for i := range transportRules {
		r := &transportRules[i]
		code, sent := r.code.String(), ""
		if r.anyCode {
			code = "any"
		}
		if r.unsent {
			sent = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %v | %s | %s | %s |\n", r.name, code, sent, r.applied, word(r.read, r.limit), word(r.write, r.limit), r.action)
	}
	methodsDocument(&b)
	return b.String()
}

func methodsDocument(b *strings.Builder) {
	b.WriteString(`
## Every method

What each method does decides how it is called (the table in etcdcall/methods.go):

- a *read* changes nothing and is retried through every failure that may pass;
- an *idempotent write* may be applied twice, so it is retried like a read; if a later attempt is
  refused with the answer in the column *done*, after one that may have done the work, the call
  succeeds;
- a *guarded write* is a transaction that writes only while a key has a certain revision, which its
  own writes change: it cannot be applied twice and is retried; if a later attempt finds its guard
  broken, the outcome is unknown;
- a *blind write* is retried exactly when it was not applied;
- a *stream* is not retried once its first message has come, but for GetStream, which goes on
  after the last key that came, at the same revision. Watches and the keeping alive of leases go on
  by their own rules.
- *once*: the call is never retried.

Attempts of reads, idempotent and guarded writes are cut after 5 s (WithAttemptTimeout), those of
blind writes are not, since that would make their outcome unknown. *Leader* says whether the server
is asked to refuse the call at once while it knows of no leader.

| method | class | leader | done | notes |
|---|---|---|---|---|
`)
	for i := range methodTable {
		m := &methodTable[i]
		note := m.note
		if m.unhurried {
			note = strings.TrimPrefix(note+"; attempts have no timeout", "; ")
		}
		fmt.Fprintf(b, "| %s | %v | %v | %s | %s |\n", strings.TrimPrefix(m.name, "/etcdserverpb."), m.class, m.leader, m.done, note)
	}
}

func word(v verdict, limit int) string {
	if v == retry && limit > 0 {
		return fmt.Sprintf("retry, %d×", limit)
	}
	return v.String()
}
