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
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

var errAbsent = errors.New("the node does not have the file")

type peer struct{ id, address string }

// client sends requests to other nodes.
type client struct {
	*env
	http     *http.Client
	requests atomic.Int64
	fetched  atomic.Int64 // bytes received from other nodes
}

// newHTTPClient returns a client for requests to other nodes. timeout limits connecting and
// waiting for a response's headers.
func newHTTPClient(config *tls.Config, timeout time.Duration) *http.Client {
	return &http.Client{
		// A redirect could send the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: config.Clone(), DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
			DialContext:         (&net.Dialer{Timeout: timeout}).DialContext,
			TLSHandshakeTimeout: timeout, ResponseHeaderTimeout: timeout, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4,
		},
	}
}

// request sends a request to another node. If offset is positive, it asks for the content from that byte on. Reading the
// response's body fails if no data arrives for the duration of Options.Lease.
func (c *client) request(ctx context.Context, method, url string, offset int64) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if c.opts.Token != "" {
		r.Header.Set("Authorization", "Bearer "+c.opts.Token)
	}
	if offset > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	c.requests.Add(1)
	response, err := c.http.Do(r)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	idle := time.AfterFunc(c.opts.Lease, func() { cancel(errors.New("the node stopped sending data")) })
	response.Body = &watchedBody{ReadCloser: response.Body, c: c, idle: idle, cancel: cancel}
	if response.StatusCode == http.StatusOK || offset > 0 && response.StatusCode == http.StatusPartialContent {
		return response, nil
	}
	text, _ := io.ReadAll(io.LimitReader(response.Body, 200)) // a truncated message is better than none
	_ = response.Body.Close()                                 // the body was only read
	if response.StatusCode == http.StatusNotFound {
		return nil, errAbsent
	}
	return nil, fmt.Errorf("%s: %q", response.Status, strings.TrimSpace(string(text)))
}

func (c *client) askJSON(ctx context.Context, method, url string, limit int64, result any) error {
	response, err := c.request(ctx, method, url, 0)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	return json.NewDecoder(io.LimitReader(response.Body, limit)).Decode(result)
}

// watchedBody is a response body that counts its bytes. If no data arrives for the duration of
// Options.Lease, it cancels the request.
type watchedBody struct {
	io.ReadCloser
	c      *client
	idle   *time.Timer
	cancel context.CancelCauseFunc
}

func (w *watchedBody) Read(p []byte) (int, error) {
	count, err := w.ReadCloser.Read(p)
	w.c.fetched.Add(int64(count))
	w.idle.Reset(w.c.opts.Lease)
	return count, err
}

func (w *watchedBody) Close() error {
	w.idle.Stop()
	err := w.ReadCloser.Close()
	w.cancel(nil)
	return err
}

// askHeads asks the peers concurrently for the newest version of a table that each has. It returns these versions and
// the errors of peers that did not answer. A peer that does not have the table or has stopped is in neither result.
func (c *client) askHeads(ctx context.Context, key string, peers []peer) (heads map[peer]record, causes []HolderError) {
	heads = map[peer]record{}
	var mu sync.Mutex
	_ = parallel.Each(ctx, slices.Values(peers), maxAsked, func(ctx context.Context, p peer) error { // the function returns no errors
		r, err := c.askHead(ctx, key, p)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			heads[p] = r
		case !errors.Is(err, errAbsent) && !errors.Is(err, syscall.ECONNREFUSED):
			// A peer that refuses the connection has stopped, but counts as alive until its lease ends.
			causes = append(causes, HolderError{p.address, err})
		}
		return nil // an error would cancel the other requests
	})
	return heads, causes
}

func (c *client) askHead(ctx context.Context, key string, p peer) (r record, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Lease)
	defer cancel()
	if err := c.askJSON(ctx, http.MethodGet, p.address+headPath+key, maxRecord, &r); err != nil {
		return r, err
	}
	return r, r.check(key)
}

// fetch gets a file from the first peer with an intact copy, unless this directory has the file.
func (c *client) fetch(ctx context.Context, f content.HashNamed, peers []peer) error {
	if c.disk.Contains(f) {
		return nil
	}
	var causes []HolderError
	for _, p := range peers {
		err := c.disk.Fetch(ctx, f, peerFiles{c, p})
		if err == nil {
			return nil
		}
		if diskErr := new(fs.PathError); errors.As(err, &diskErr) || ctx.Err() != nil {
			return errors.Join(err, canceled.Err(ctx))
		}
		causes = append(causes, HolderError{p.address, err})
	}
	return &SyncError{causes}
}

// peerFiles is a [content.Holder] for the files of another node.
type peerFiles struct {
	c *client
	peer
}

// Try calls attempt once, with a time limit that depends on the file's size.
func (p peerFiles) Try(ctx context.Context, f content.HashNamed, attempt func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.c.transferTimeout(f.Size))
	defer cancel()
	err := attempt(ctx)
	if err != nil {
		err = errors.Join(err, canceled.Err(ctx))
	}
	return err
}

// Open requests the bytes of a file, starting at offset.
func (p peerFiles) Open(ctx context.Context, f content.HashNamed, offset int64) (io.ReadCloser, error) {
	response, err := p.c.request(ctx, http.MethodGet, p.address+filePath+f.Hash, offset)
	if err != nil {
		return nil, err
	}
	length := response.ContentLength
	switch {
	case offset > 0 && (response.StatusCode == http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset))):
		err = fmt.Errorf("the node did not send the file from byte %d on: %w", offset, content.ErrOffset)
	case length >= 0 && length != f.Size-offset:
		err = fmt.Errorf("the node's file has %d bytes, but the manifest lists %d", offset+length, f.Size)
	default:
		return response.Body, nil
	}
	return nil, errors.Join(err, response.Body.Close())
}
