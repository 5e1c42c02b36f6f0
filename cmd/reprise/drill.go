package main

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/term"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/cmd/reprise/internal/drill"
)

const drillHelp = `Runs readers and writers through Reprise and then, with the same seed, faults,
offered calls and deadlines, through plain clientv3, each on a real etcd cluster
of three members in this process. Meanwhile the leader is killed, links are cut,
responses are lost after the server applied the write, and streams are reset.
Beside them, watchers follow all keys, and clients contend for a lock and for an
election. Reprise writes with etcdcall.WithExactlyOnce, unless
--exactly-once=false, and paces its attempts by the cluster's election timeout.
Every written value is unique; when all calls have ended, the full history is
read from a member, and says what became of each write.

With --endpoints it runs on your own cluster, without faults, under a prefix of
its own, and deletes that prefix in the end.

The table goes to the standard output, progress to the standard error.

Exit status: 0 if Reprise kept its promises; 1 if an acknowledged write is
missing, a write was applied twice or against what its caller was told, a read
was wrong, a guarantee to watchers was broken, a lock or an election had two
holders at once, or fewer than half as many calls succeeded under faults as without;
2 if the drill could not run; 130 if it was interrupted.`

// drillFlags are the flags of the command as they were given.
type drillFlags struct {
	duration  time.Duration
	seed      uint64
	rate      int
	clients   int
	timeout   time.Duration
	once      bool
	json      bool
	endpoints []string
	prefix    string
	user      string
	tls       transport.TLSInfo
}

func newDrill() *cobra.Command {
	f := &drillFlags{}
	c := &cobra.Command{
		Use:     "drill",
		Short:   "Run a workload on etcd under faults, through Reprise and through clientv3",
		Long:    drillHelp,
		Args:    cobra.NoArgs,
		Example: "  reprise drill --duration 30s --seed 7\n  reprise drill --endpoints http://10.0.0.1:2379 --json",
	}
	c.RunE = func(c *cobra.Command, _ []string) error { return f.run(c) }
	fs := c.Flags()
	fs.DurationVar(&f.duration, "duration", 15*time.Second, "how long each side is under faults")
	fs.Uint64Var(&f.seed, "seed", 0, "what decides the calls and the faults (default a new one)")
	fs.IntVar(&f.rate, "rate", 200, "calls offered a second")
	fs.IntVar(&f.clients, "clients", 4, "clients that share the calls")
	fs.DurationVar(&f.timeout, "timeout", 10*time.Second, "deadline of each call")
	fs.BoolVar(&f.once, "exactly-once", true, "let Reprise repeat ambiguous writes, applying each at most once")
	fs.BoolVar(&f.json, "json", false, "print the result as JSON")
	fs.StringSliceVar(&f.endpoints, "endpoints", nil, "run on this cluster of yours, without faults")
	fs.StringVar(&f.prefix, "prefix", "", "prefix of all keys on your cluster (default a new one under reprise-drill/)")
	fs.StringVar(&f.user, "user", "", "name:password on your cluster")
	fs.StringVar(&f.tls.TrustedCAFile, "cacert", "", "file with the authority of your cluster's certificates")
	fs.StringVar(&f.tls.CertFile, "cert", "", "file with a client certificate")
	fs.StringVar(&f.tls.KeyFile, "key", "", "file with its key")
	c.MarkFlagsRequiredTogether("cert", "key")
	return c
}

func (f *drillFlags) run(c *cobra.Command) error {
	cfg, err := f.config(c)
	if err != nil {
		return err
	}
	progress, done := newProgress(c.ErrOrStderr())
	cfg.Watch = progress
	report, err := drill.Run(c.Context(), cfg)
	done()
	if err != nil {
		return err
	}
	if err := f.print(c.OutOrStdout(), report); err != nil {
		return err
	}
	if !report.OK {
		return errBroken
	}
	return nil
}

func (f *drillFlags) print(w io.Writer, r *drill.Report) error {
	if !f.json {
		return r.Table(w)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (f *drillFlags) config(c *cobra.Command) (drill.Config, error) {
	cfg := drill.Config{Duration: f.duration, Seed: f.seed, Rate: f.rate, Clients: f.clients, Timeout: f.timeout, ExactlyOnce: f.once}
	if !c.Flags().Changed("seed") {
		cfg.Seed = newSeed()
	}
	if !c.Flags().Changed("endpoints") {
		for _, name := range []string{"prefix", "user", "cacert", "cert", "key"} {
			if c.Flags().Changed(name) {
				return cfg, fmt.Errorf("--%s needs --endpoints", name)
			}
		}
		return cfg, cfg.Validate()
	}
	target, err := f.target()
	if err != nil {
		return cfg, err
	}
	cfg.Target = target
	return cfg, cfg.Validate()
}

// target is the user's own cluster.
func (f *drillFlags) target() (*drill.Target, error) {
	t := &drill.Target{
		Client: clientv3.Config{Endpoints: f.endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()},
		Prefix: f.prefix,
	}
	if t.Prefix == "" {
		t.Prefix = fmt.Sprintf("reprise-drill/%x/", newSeed())
	}
	if f.user != "" {
		name, password, ok := strings.Cut(f.user, ":")
		if !ok {
			return nil, fmt.Errorf("--user is %q, want name:password", f.user)
		}
		t.Client.Username, t.Client.Password = name, password
	}
	if f.tls.Empty() && f.tls.TrustedCAFile == "" {
		return t, nil
	}
	tls, err := f.tls.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	t.Client.TLS = tls
	return t, nil
}

func newSeed() uint64 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // it never fails
	return uint64(binary.BigEndian.Uint32(b[:]))
}

// isTerminal tells whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
