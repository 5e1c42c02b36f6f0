package etcdcall

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// syncTimeout bounds one synchronization of the endpoints, as in clientv3.
const syncTimeout = 5 * time.Second

// autoSync keeps the endpoints of cli those of the cluster's members, as
// clientv3 does, until the client is closed.
func autoSync(cli *clientv3.Client, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-cli.Ctx().Done():
			return
		case <-ticker.C:
		}
		ctx, cancel := context.WithTimeout(cli.Ctx(), syncTimeout)
		err := cli.Sync(ctx)
		cancel()
		if err != nil && cli.Ctx().Err() == nil {
			cli.GetLogger().Info("synchronizing the endpoints failed", zap.Error(err))
		}
	}
}
