package calls_test

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/reprise-go/reprise/etcdcall"
	"github.com/reprise-go/reprise/integration/etcdtest"
)

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t, etcdtest.WithMembers(3), calm, etcdtest.WithClientCertificates(), etcdtest.WithAuth("secret"))
	cfg := c.Config()
	cfg.Username, cfg.Password = "", "" // the certificate says who it is
	cli := client(t, cfg)
	must(t, second(cli.Put(soon(t), "k", "v")))

	// AuthOldRevision cannot be healed by a token here; the call is just made
	// again.
	must(t, second(c.Client(t).UserAdd(soon(t), "somebody", "else")))
	must(t, second(cli.Put(soon(t), "k", "w")))

	leader, err := c.WaitLeader(soon(t))
	must(t, err)
	must(t, leader.Kill())
	must(t, second(cli.Get(soon(t), "k")))
	must(t, second(cli.Put(soon(t), "k", "x")))

	cfg.TLS.Certificates = nil
	stranger := client(t, clientv3.Config{Endpoints: cfg.Endpoints, TLS: cfg.TLS})
	err = second(stranger.Put(within(t, 300*time.Millisecond), "k", "y"))
	if etcdcall.OutcomeOf(err) != etcdcall.NotApplied {
		t.Errorf("without a certificate: outcome %v of %v", etcdcall.OutcomeOf(err), err)
	}
}
