package calls_test

import (
	"errors"
	"net/url"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/reprise-go/reprise/integration/etcdtest"
)

// startLearner adds a member to the cluster that has no vote, and returns its
// endpoint.
func startLearner(t *testing.T, c *etcdtest.Cluster) string {
	t.Helper()
	admin := c.Client(t)
	var err error
	for range 5 { // until nobody else takes the port
		var endpoint string
		if endpoint, err = tryLearner(t, admin); err == nil {
			return endpoint
		}
	}
	t.Fatal(err)
	return ""
}

func tryLearner(t *testing.T, admin *clientv3.Client) (endpoint string, err error) {
	t.Helper()
	reserved, err := reserve()
	must(t, err)
	peer := "http://" + reserved
	added, err := admin.MemberAddAsLearner(soon(t), []string{peer})
	must(t, err)

	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.UnsafeNoFsync, cfg.EnableGRPCGateway = "learner", t.TempDir(), true, false
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.ListenPeerUrls = []url.URL{{Scheme: "http", Host: reserved}}
	cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
	cfg.ListenClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.ClusterState = embed.ClusterStateFlagExisting
	cfg.InitialCluster = "learner=" + peer
	for _, m := range added.Members {
		if m.GetID() != added.Member.GetID() {
			cfg.InitialCluster += "," + m.GetName() + "=" + m.GetPeerURLs()[0]
		}
	}
	learner, err := embed.StartEtcd(cfg)
	if err != nil {
		must(t, second(admin.MemberRemove(soon(t), added.Member.GetID())))
		return "", err
	}
	t.Cleanup(learner.Close)
	<-learner.Server.ReadyNotify()
	return learner.Clients[0].Addr().String(), nil
}

func TestACallThatALearnerRefusesGoesToAnotherEndpoint(t *testing.T) {
	t.Parallel()
	c := etcdtest.New(t)
	endpoint := startLearner(t, c)

	both := c.Config()
	both.Endpoints = append(slices.Clone(both.Endpoints), endpoint)
	cli := client(t, both)
	for range 8 {
		must(t, second(cli.Put(soon(t), "k", "v")))
		must(t, second(cli.Get(soon(t), "k")))
	}

	alone := client(t, clientv3.Config{Endpoints: []string{endpoint}})
	if err := second(alone.Put(soon(t), "k", "v")); !errors.Is(err, rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner)) {
		t.Errorf("a client of the learner alone got %v", err)
	}
	must(t, second(alone.Get(soon(t), "k", clientv3.WithSerializable())))
}
