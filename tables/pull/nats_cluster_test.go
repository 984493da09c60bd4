package pull

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
)

// startCluster starts a cluster of three NATS servers. start restarts server i.
func startCluster(t *testing.T) (all []*server.Server, urls string, start func(i int)) {
	t.Helper()
	var ports []int
	for range 6 { // each server has a port for clients and one for the cluster
		ports = append(ports, portOf(t, "localhost:"+nettest.FreePort(t)))
	}
	var routes []*url.URL
	var clients []string
	for i := range 3 {
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[3+i])})
		clients = append(clients, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
	}
	all = make([]*server.Server, 3)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	start = func(i int) {
		s := must.Get(server.NewServer(&server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: ports[i], JetStream: true, StoreDir: dirs[i], NoSigs: true, NoLog: true,
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[3+i]}, Routes: routes,
		}))(t)
		all[i] = s
		go s.Start()
	}
	for i := range all {
		start(i)
	}
	t.Cleanup(func() {
		for _, s := range all {
			s.Shutdown()
			s.WaitForShutdown()
		}
	})
	return all, strings.Join(clients, ","), start
}

// TestCluster stops the leader of a cluster twice while nodes save. No acknowledged save may
// be lost.
func TestCluster(t *testing.T) {
	t.Parallel()
	servers, urls, start := startCluster(t)
	open := func() *Node {
		return openNode(t, t.TempDir(), Options{Registry: urls, Lease: 3 * time.Second, SyncTimeout: 20 * time.Second})
	}
	nodes := []*Node{open(), open()}
	leader := func() (index int) {
		waitFor(t, "an elected leader", func() bool {
			index = slices.IndexFunc(servers, func(s *server.Server) bool { return s.Running() && s.JetStreamIsStreamLeader("$G", "KV_"+bucketName) })
			return index >= 0
		})
		return index
	}
	var mu sync.Mutex
	saved := map[string]bool{}
	day := 0
	save := func(n *Node) bool {
		mu.Lock()
		index := day
		day++
		mu.Unlock()
		_, err := n.Save(t.Context(), "x", rowsOf(t, index, "a=1"))
		switch {
		case err == nil:
			mu.Lock()
			saved[fmt.Sprint(index, " 1")] = true
			mu.Unlock()
		case !errors.Is(err, ErrConflict) && !errors.Is(err, ErrSyncFailed) && !errors.Is(err, partd.ErrUnknownOutcome):
			t.Error(err)
		}
		return err == nil
	}
	waitFor(t, "the first save", func() bool { return save(nodes[0]) })
	status := must.Get(nodes[0].reg.nats.kv.Status(t.Context()))(t)
	if c := status.(*jetstream.KeyValueBucketStatus).StreamInfo().Config; c.Replicas != 3 {
		t.Errorf("the bucket has %d replicas, want 3", c.Replicas)
	}
	for range 2 {
		index := leader()
		var work sync.WaitGroup
		begun := make(chan bool, 2)
		for _, n := range nodes {
			work.Go(func() {
				for k := range 5 {
					save(n)
					if k == 0 {
						begun <- true
					}
				}
			})
		}
		<-begun
		servers[index].Shutdown()
		work.Wait()
		for _, n := range nodes {
			waitFor(t, "a save without the stopped server", func() bool { return save(n) })
		}
		start(index)
		waitFor(t, "the restarted server to catch up", func() bool { return servers[index].JetStreamIsCurrent() })
	}
	fresh := open()
	var text string
	waitFor(t, "a Load on a new node", func() bool {
		r, err := fresh.Load(t.Context(), "x", noBound, noBound)
		if err == nil {
			text, err = formatRows(r)
		}
		return err == nil
	})
	for row := range saved {
		if !strings.Contains("\n"+text, "\n"+row+"\n") {
			t.Errorf("the acknowledged row %q is missing from %q", row, text)
		}
	}
}
