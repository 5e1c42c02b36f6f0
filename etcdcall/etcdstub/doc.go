// Package etcdstub holds generated clients of the six etcd services: KV, Watch,
// Lease, Cluster, Maintenance and Auth. Each method is a bound call of Reprise,
// so that a policy can be given to it by options.
//
// By default only calls that read are tried again, and only after UNAVAILABLE,
// which says nothing of whether a write was applied. The package knows no more
// of etcd than that. Most programs want package etcdcall, which does, or a
// clientv3.Client made by it:
//
//	kv := etcdstub.NewKVClient(etcdserverpb.NewKVClient(conn), nil)
//	resp, err := kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("a")})
package etcdstub

//go:generate go run ../../cmd/reprise-gen -module etcd/api/=go.etcd.io/etcd/api/v3 -module go.etcd.io/etcd/api/v3//etcdserverpb -opt service_config=etcd.json,package=github.com/reprise-go/reprise/etcdcall/etcdstub,module=github.com/reprise-go/reprise/etcdcall/etcdstub rpc.proto
