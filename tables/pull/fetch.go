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
	"syscall"
	"time"

	"github.com/go-partd/partd/internal/canceled"
	"github.com/go-partd/partd/tables/internal/content"
	"github.com/go-partd/partd/tables/internal/parallel"
)

var errAbsent = errors.New("the node does not have the file")

func newClient(config *tls.Config, patience time.Duration) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // never send the token elsewhere
		Transport: &http.Transport{
			TLSClientConfig: config.Clone(), DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
			DialContext:         (&net.Dialer{Timeout: patience}).DialContext,
			TLSHandshakeTimeout: patience, ResponseHeaderTimeout: patience, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: 4,
		},
	}
}

// request sends a request to another node. Reading the response body fails if no bytes
// arrive for a lease.
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
	silent := time.AfterFunc(n.opts.Lease, func() { cancel(errors.New("the node stopped sending data")) })
	answer.Body = &watched{ReadCloser: answer.Body, n: n, silent: silent, cancel: cancel}
	if answer.StatusCode == http.StatusOK || from > 0 && answer.StatusCode == http.StatusPartialContent {
		return answer, nil
	}
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 200)) // a partial message is better than none
	_ = answer.Body.Close()
	if answer.StatusCode == http.StatusNotFound {
		return nil, errAbsent
	}
	return nil, fmt.Errorf("%s: %q", answer.Status, strings.TrimSpace(string(text)))
}

// askJSON sends a request and decodes the JSON response. It reads at most limit bytes.
func (n *Node) askJSON(ctx context.Context, method, url string, limit int64, into any) error {
	answer, err := n.request(ctx, method, url, 0)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // it was only read
	return json.NewDecoder(io.LimitReader(answer.Body, limit)).Decode(into)
}

// watched is a response body that counts the received bytes, and cancels the request if no
// bytes arrive for a lease.
type watched struct {
	io.ReadCloser
	n      *Node
	silent *time.Timer
	cancel context.CancelCauseFunc
}

func (w *watched) Read(p []byte) (int, error) {
	count, err := w.ReadCloser.Read(p)
	w.n.fetched.Add(int64(count))
	w.silent.Reset(w.n.opts.Lease)
	return count, err
}

func (w *watched) Close() error {
	w.silent.Stop()
	err := w.ReadCloser.Close()
	w.cancel(nil)
	return err
}

// askHeads asks nodes concurrently for a table's head.
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
		case !errors.Is(err, errAbsent) && !errors.Is(err, syscall.ECONNREFUSED): // a node that has just ended counts as alive until its lease ends
			causes = append(causes, HolderError{p.address, err})
		}
		return nil // other nodes may still answer
	})
	return heads, causes
}

func (n *Node) askHead(ctx context.Context, key string, p peer) (r record, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.opts.Lease)
	defer cancel()
	if err := n.askJSON(ctx, http.MethodGet, p.address+headPath+key, maxRecord, &r); err != nil {
		return r, err
	}
	return r, r.check(key)
}

// fetch fetches a file from the first node that has an intact copy.
func (n *Node) fetch(ctx context.Context, f content.Named, from []peer) error {
	if n.disk.Contains(f) {
		return nil
	}
	if own := n.disk.storage; own != nil && n.disk.Fetch(ctx, f, own) == nil { // the storage has the file, but the directory lost its empty file
		return nil
	}
	var causes []HolderError
	for _, p := range from {
		err := n.disk.Fetch(ctx, f, peerFiles{n, p})
		if err == nil {
			return nil
		}
		if local := new(fs.PathError); errors.As(err, &local) || ctx.Err() != nil {
			return errors.Join(err, canceled.Err(ctx))
		}
		causes = append(causes, HolderError{p.address, err})
	}
	return &SyncError{causes}
}

// peerFiles fetches the files of another node.
type peerFiles struct {
	n *Node
	peer
}

// Try calls attempt once, with a time limit for the file.
func (p peerFiles) Try(ctx context.Context, f content.Named, attempt func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.n.fileTime(f.Size))
	defer cancel()
	err := attempt(ctx)
	if err != nil {
		err = errors.Join(err, canceled.Err(ctx))
	}
	return err
}

// Open requests a file from offset on.
func (p peerFiles) Open(ctx context.Context, f content.Named, offset int64) (io.ReadCloser, error) {
	answer, err := p.n.request(ctx, http.MethodGet, p.address+filePath+f.Hash, offset)
	if err != nil {
		return nil, err
	}
	length := answer.ContentLength
	switch {
	case offset > 0 && (answer.StatusCode == http.StatusOK || !strings.HasPrefix(answer.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset))):
		err = fmt.Errorf("the node does not send the file from byte %d on: %w", offset, content.ErrOffset)
	case length >= 0 && length != f.Size-offset:
		err = fmt.Errorf("the node's file has %d bytes, but the manifest lists %d", offset+length, f.Size)
	default:
		return answer.Body, nil
	}
	return nil, errors.Join(err, answer.Body.Close())
}
