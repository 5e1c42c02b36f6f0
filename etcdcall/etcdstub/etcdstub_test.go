package etcdstub_test

import (
	"reflect"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/reprise-go/reprise"
	"github.com/reprise-go/reprise/etcdcall/etcdstub"
	"github.com/reprise-go/reprise/internal/gen"
	"github.com/reprise-go/reprise/internal/request"
)

func TestTheStubsAreWhatTheGeneratorMakesOfEtcdsServices(t *testing.T) {
	t.Parallel()
	var roots []request.Root
	for _, text := range []string{"etcd/api/=go.etcd.io/etcd/api/v3", "go.etcd.io/etcd/api/v3//etcdserverpb"} {
		root, err := request.ParseModuleRoot(t.Context(), text)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	const pkg = "github.com/reprise-go/reprise/etcdcall/etcdstub"
	req, err := request.New(t.Context(), roots, "service_config=etcd.json,package="+pkg+",module="+pkg, "rpc.proto")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := gen.Respond(req)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.File) != 1 {
		t.Errorf("got %d files, want 1: %s", len(resp.File), resp.GetError())
	}
	if err := request.Check(".", resp); err != nil {
		t.Errorf("%v; run go generate ./...", err)
	}
}

// reads are the methods that change nothing, so that they may be repeated.
var reads = map[string][]string{
	"KV":          {"Range", "RangeStream"},
	"Watch":       {},
	"Lease":       {"LeaseTimeToLive", "LeaseLeases"},
	"Cluster":     {"MemberList"},
	"Maintenance": {"Status", "Hash", "HashKV"},
	"Auth":        {"AuthStatus", "UserGet", "UserList", "RoleGet", "RoleList"},
}

var defaults = map[string]any{
	"KV":          etcdstub.DefaultKVCallOptions(),
	"Watch":       etcdstub.DefaultWatchCallOptions(),
	"Lease":       etcdstub.DefaultLeaseCallOptions(),
	"Cluster":     etcdstub.DefaultClusterCallOptions(),
	"Maintenance": etcdstub.DefaultMaintenanceCallOptions(),
	"Auth":        etcdstub.DefaultAuthCallOptions(),
}

func TestOnlyReadsAreRetriedByDefault(t *testing.T) {
	t.Parallel()
	services := etcdserverpb.File_rpc_proto.Services()
	if services.Len() != len(defaults) {
		t.Errorf("etcd has %d services, the test knows %d", services.Len(), len(defaults))
	}
	for i := range services.Len() {
		service := string(services.Get(i).Name())
		options := reflect.ValueOf(defaults[service]).Elem()
		methods := services.Get(i).Methods()
		if options.NumField() != methods.Len() {
			t.Errorf("%s: %d methods have options, of %d", service, options.NumField(), methods.Len())
		}
		for j := range methods.Len() {
			method := string(methods.Get(j).Name())
			var cs reprise.CallSettings
			for _, o := range options.FieldByName(method).Interface().([]reprise.CallOption) {
				o.Resolve(&cs)
			}
			if got, want := cs.Retry != nil, slices.Contains(reads[service], method); got != want {
				t.Errorf("%s.%s: retried by default: %v, want %v", service, method, got, want)
			}
			if cs.Timeout != 0 {
				t.Errorf("%s.%s: has a timeout by default", service, method)
			}
		}
	}
}

// The clients stand for those of etcd.
var (
	_ func() etcdserverpb.KVClient          = (*etcdstub.KVClient)(nil).AsKVClient
	_ func() etcdserverpb.WatchClient       = (*etcdstub.WatchClient)(nil).AsWatchClient
	_ func() etcdserverpb.LeaseClient       = (*etcdstub.LeaseClient)(nil).AsLeaseClient
	_ func() etcdserverpb.ClusterClient     = (*etcdstub.ClusterClient)(nil).AsClusterClient
	_ func() etcdserverpb.MaintenanceClient = (*etcdstub.MaintenanceClient)(nil).AsMaintenanceClient
	_ func() etcdserverpb.AuthClient        = (*etcdstub.AuthClient)(nil).AsAuthClient
)
