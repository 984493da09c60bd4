package pull

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

// TestVerifyDuringOpen sends a request while Open waits for a registry that accepts connections but sends nothing.
func TestVerifyDuringOpen(t *testing.T) {
	dir := t.TempDir()
	_, url := startRegistry(t)
	n := openNode(t, dir, Options{Registry: url})
	mustSave(t, n, "x", 0, "a=1")
	must.Do(t, n.Close())
	must.Do(t, os.RemoveAll(filepath.Join(dir, "files"))) // so that the check has to fetch the manifest
	silent := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer silent.Close()
	free := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
	address := free.Addr().String()
	must.Do(t, free.Close())

	status := make(chan string, 1)
	go func() {
		for t.Context().Err() == nil {
			response, err := http.Post("http://"+address+verifyPath, "", nil)
			if err == nil {
				_ = response.Body.Close()
				status <- response.Status
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	openNode(t, dir, Options{Registry: "nats://" + silent.Addr().String(), Listen: address, Lease: time.Second})
	if got := <-status; got != "200 OK" {
		t.Errorf("got status %s, want 200 OK", got)
	}
}
