package pull

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// localPort is where the nodes of one machine have their registry. Tests have others.
var localPort = 4289

// startLocal starts a registry in this process, unless the machine has one. The
// one that another process had is gone with it: the nodes tell the new one.
func (r *natsRegistry) startLocal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.local != nil && r.local.Running() {
		return
	}
	if c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", localPort), time.Second); err == nil {
		_ = c.Close()
		return
	}
	s, err := newLocal(filepath.Join(r.n.disk.dir, "registry"), localPort, r.n.opts.Token)
	if err != nil {
		r.n.log.Debug("pull: no registry in this process", "error", err)
		return
	}
	r.local = s
}

// newLocal starts a server of NATS for this machine alone.
func newLocal(dir string, port int, token string) (*server.Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "partd-pull", Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, Authorization: token,
		NoSigs: true, NoLog: true, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 1 << 30, SyncAlways: true,
	})
	if err != nil {
		return nil, err
	}
	go s.Start()
	if !s.ReadyForConnections(5*time.Second) || !s.Running() {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("port %d of 127.0.0.1 is taken", port)
	}
	return s, nil
}
