package pull

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/tables/internal/parallel"
)

var errAbsent = errors.New("it does not have the file")

func newClient(config *tls.Config, patience time.Duration) *http.Client {
	if config != nil {
		config = config.Clone()
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
		Transport: &http.Transport{
			TLSClientConfig: config, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
			DialContext:         (&net.Dialer{Timeout: patience}).DialContext,
			TLSHandshakeTimeout: patience, ResponseHeaderTimeout: patience, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4,
		},
	}
}

// request sends a request to another node. The body ends with an error where
// nothing comes for a lease.
func (n *Node) request(ctx context.Context, method, url string, from int64) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if n.opts.Token != "" {
		r.Header.Set("Authorization", "Bearer "+n.opts.Token)
	}
	if from > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	n.requests.Add(1)
	answer, err := n.client.Do(r)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	silent := time.AfterFunc(n.opts.Lease, func() { cancel(errors.New("it fell silent")) })
	answer.Body = &watched{ReadCloser: answer.Body, n: n, silent: silent, cancel: cancel}
	if answer.StatusCode == http.StatusOK || from > 0 && answer.StatusCode == http.StatusPartialContent {
		return answer, nil
	}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 200)) // what can be had of it
	_ = answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound {
		return nil, errAbsent
	}
	return nil, fmt.Errorf("%s: %q", answer.Status, strings.TrimSpace(string(text)))
}

type watched struct {
	io.ReadCloser
	n      *Node
	silent *time.Timer
	cancel context.CancelCauseFunc
}

func (w *watched) Read(p []byte) (int, error) {
	got, err := w.ReadCloser.Read(p)
	w.n.fetched.Add(int64(got))
	w.silent.Reset(w.n.opts.Lease)
	return got, err
}

func (w *watched) Close() error {
	w.silent.Stop()
	err := w.ReadCloser.Close()
	w.cancel(nil)
	return err
}

// askHeads asks nodes for a table's head, all at once.
func (n *Node) askHeads(ctx context.Context, key string, of []peer) (heads map[peer]record, causes []HolderError) {
	heads = map[peer]record{}
	var mu sync.Mutex
	_ = parallel.Each(ctx, slices.Values(of), maxAsked, func(ctx context.Context, p peer) error {
		r, err := n.askHead(ctx, key, p)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			heads[p] = r
		case !errors.Is(err, errAbsent) && !errors.Is(err, syscall.ECONNREFUSED): // of one that ended, the lease goes on
			causes = append(causes, HolderError{p.address, err})
		}
		return nil // the others may know more
	})
	return heads, causes
}

func (n *Node) askHead(ctx context.Context, key string, p peer) (r record, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.opts.Lease)
	defer cancel()
	answer, err := n.request(ctx, http.MethodGet, p.address+headPath+key, 0)
	if err != nil {
		return r, err
	}
	defer answer.Body.Close() //nolint:errcheck // it was only read
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxRecord)).Decode(&r); err != nil {
		return r, err
	}
	return r, r.check(key)
}

// fetch brings a file here, from the first node that has it whole and right.
func (n *Node) fetch(ctx context.Context, hash string, size int64, from []peer) error {
	part := filepath.Join(n.disk.dir, "tmp", hash+".part")
	l := vfs.OS{}.NewLock(part + ".lock")
	for got := false; !got; {
		var err error
		if got, err = l.TryLock(true); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), l.Unlock())
		case <-time.After(map[bool]time.Duration{false: 20 * time.Millisecond}[got]):
		}
	}
	defer l.Unlock() //nolint:errcheck // another holder waits for it, or none
	if n.disk.has(hash, size) {
		return nil
	}
	var causes []HolderError
	for _, p := range from {
		err := n.fetchFrom(ctx, part, hash, size, p)
		if err == nil {
			return errors.Join(n.disk.place(part, n.disk.path(hash), nil), os.Remove(part+".lock"))
		}
		if local := new(fs.PathError); errors.As(err, &local) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		causes = append(causes, HolderError{p.address, err})
	}
	return &SyncError{causes}
}

// fetchFrom goes on where the part ends, and leaves what came for another try unless
// it is wrong.
func (n *Node) fetchFrom(ctx context.Context, part, hash string, size int64, p peer) error {
	ctx, cancel := context.WithTimeout(ctx, n.fileTime(size))
	defer cancel()
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // synced, or not used
	at, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if at < size {
		answer, err := n.request(ctx, http.MethodGet, p.address+filePath+hash, at)
		if err != nil {
			return err
		}
		defer answer.Body.Close() //nolint:errcheck // it was only read
		if answer.StatusCode == http.StatusOK && at > 0 || at > 0 && !strings.HasPrefix(answer.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", at)) {
			_ = f.Truncate(0) // the next try begins anew
			return fmt.Errorf("it was asked for what begins at byte %d, and sent something else", at)
		}
		if left := answer.ContentLength; left >= 0 && left != size-at {
			return fmt.Errorf("its file has %d bytes, and the manifest says %d", at+left, size)
		}
		came, err := io.Copy(f, io.LimitReader(answer.Body, size-at))
		if err == nil && came < size-at {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
	}
	if err := checkContent(f, hash, size); err != nil {
		return errors.Join(err, f.Truncate(0))
	}
	return f.Sync()
}
