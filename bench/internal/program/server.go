package program

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/go-partd/partd/internal/command/servercli"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// serverEnv is the environment variable that turns a benchmark program into the server.
const serverEnv = "PARTD_BENCH_SERVER"

// ServeIfChild runs partd-server instead of the benchmark if StartServer started this process.
func ServeIfChild() {
	if os.Getenv(serverEnv) != "" {
		os.Exit(servercli.Main(os.Args[1:]))
	}
}

// Server is a partd-server process with its own store.
type Server struct {
	*procs.Server
	Dir string // holds the store
}

// StartServer starts this program as partd-server. store is the URL of the store, such as
// "log:DIR", where DIR stands for a new directory in the directory parent.
func StartServer(ctx context.Context, parent, store string, flags ...string) (*Server, error) {
	dir, err := os.MkdirTemp(parent, "partd-bench-*")
	if err != nil {
		return nil, err
	}
	store = strings.Replace(store, "DIR", dir+"/data", 1)
	cmd := Self(append([]string{"--listen", "tcp://127.0.0.1:0", "--store", store}, flags...)...)
	cmd.Env = append(os.Environ(), serverEnv+"=1")
	p, err := procs.StartServer(ctx, cmd, 1)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Server{p, dir}, nil
}

// Close stops the server and removes its store.
func (s *Server) Close() error { return errors.Join(s.Stop(time.Minute), os.RemoveAll(s.Dir)) }
