package cloud

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"github.com/go-partd/partd/objstore"
)

const (
	gcsAPI      = "https://storage.googleapis.com/storage/v1/"
	scopePrefix = "https://www.googleapis.com/auth/"
	gcsPage     = 64 << 20 // maximum size of a page of a listing, in bytes
)

// gcs is a bucket of Google Cloud Storage, accessed with the JSON API, because Google's own library
// would add 300 packages.
type gcs struct {
	remote
	client  *http.Client
	api     string // ends with a slash
	project string // project to bill, or ""
}

// openGCS returns a bucket, accessed with the application default credentials. In tests, the variable
// STORAGE_EMULATOR_HOST can name another server.
func openGCS(ctx context.Context, bucket, prefix, endpoint string) (*gcs, error) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	if base, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = base.Clone()
	}
	b := &gcs{remote: newRemote("gs", bucket, prefix, transport), client: &http.Client{Transport: transport}, api: gcsAPI}
	if host := os.Getenv("STORAGE_EMULATOR_HOST"); host != "" && endpoint == "" {
		if !strings.Contains(host, "://") {
			host = "http://" + host
		}
		endpoint = strings.TrimRight(host, "/") + "/storage/v1/"
	}
	if endpoint == "" {
		return b, b.authorize(ctx)
	}
	if _, err := parseEndpoint(endpoint, "write http://HOST:PORT/storage/v1/"); err != nil {
		return nil, err
	}
	b.api = strings.TrimRight(endpoint, "/") + "/"
	return b, nil
}

func (b *gcs) authorize(ctx context.Context) error {
	// It must be possible to fetch tokens even after ctx has ended, as long as the bucket is open.
	ctx = context.WithValue(context.WithoutCancel(ctx), oauth2.HTTPClient, &http.Client{Transport: b.transport, Timeout: time.Minute})
	creds, err := google.FindDefaultCredentials(ctx, scopePrefix+"devstorage.full_control", scopePrefix+"cloud-platform")
	if err != nil {
		return fmt.Errorf("%v: %w", b, err)
	}
	var user struct {
		Project string `json:"quota_project_id"`
	}
	_ = json.Unmarshal(creds.JSON, &user) // credentials from the metadata server have no JSON file
	b.project = cmp.Or(os.Getenv("GOOGLE_CLOUD_QUOTA_PROJECT"), user.Project)
	b.client = &http.Client{Transport: &oauth2.Transport{Source: creds.TokenSource, Base: b.transport}}
	return nil
}

type gcsError struct {
	code int
	text string
}

func (e *gcsError) Error() string {
	return fmt.Sprintf("Google Cloud Storage answered %d %s: %s", e.code, http.StatusText(e.code), e.text)
}

func (*gcs) hasStatus(err error, code int) bool {
	e, ok := errors.AsType[*gcsError](err)
	return ok && e.code == code
}

// send makes one request. It does not retry, because a retried create could report that the object
// exists, although the first try created it.
func (b *gcs) send(r *http.Request) (*http.Response, error) {
	if b.project != "" {
		r.Header.Set("X-Goog-User-Project", b.project)
	}
	resp, err := b.client.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close() //nolint:errcheck // an error is harmless: the rest of the body is not used
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error struct{ Message string }
	}
	if json.Unmarshal(text, &answer) != nil || answer.Error.Message == "" {
		answer.Error.Message = string(text)
	}
	return nil, &gcsError{resp.StatusCode, answer.Error.Message}
}

// request makes a request without a body for an object, or for the bucket if name is empty. byteRange is the
// value of the Range header, or empty.
func (b *gcs) request(ctx context.Context, method, name string, query url.Values, byteRange string) (*http.Response, error) {
	path := b.api + "b/" + url.PathEscape(b.bucket) + "/o"
	if name != "" {
		path += "/" + url.PathEscape(b.prefix+name)
	}
	r, err := http.NewRequestWithContext(ctx, method, path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	if byteRange != "" {
		r.Header.Set("Range", byteRange)
	}
	return b.send(r)
}

// toStoreError converts an error as [objstore.Bucket] requires.
func (b *gcs) toStoreError(err error, name string) error {
	if e, ok := errors.AsType[*gcsError](err); ok {
		return b.remote.toStoreError(err, name, e.code)
	}
	return err
}

// Create creates an object unless it exists (generation 0 means that it does not). The server verifies the checksum
// in the request.
func (b *gcs) Create(ctx context.Context, name string, data []byte) error {
	meta, err := json.Marshal(map[string]string{"name": b.prefix + name, "crc32c": checksum(data)})
	if err != nil {
		return err
	}
	var head, tail bytes.Buffer
	writer := multipart.NewWriter(&head)
	for _, part := range []struct {
		contentType string
		data        []byte
	}{{"application/json", meta}, {"application/octet-stream", nil}} {
		w, err := writer.CreatePart(textproto.MIMEHeader{"Content-Type": {part.contentType}})
		if err == nil {
			_, err = w.Write(part.data)
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(&tail, "\r\n--%s--\r\n", writer.Boundary())
	size := int64(head.Len() + len(data) + tail.Len())
	body := &borrowedReader{r: bytes.NewReader(data)}
	defer body.release()
	// Uploads have a different path than other requests.
	base, err := url.Parse(b.api)
	if err != nil {
		return err
	}
	u := base.ResolveReference(&url.URL{Path: "/upload" + base.Path + "b/" + b.bucket + "/o", RawQuery: "uploadType=multipart&ifGenerationMatch=0"})
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), io.MultiReader(&head, body, &tail))
	if err != nil {
		return err
	}
	r.ContentLength = size
	r.Header.Set("Content-Type", "multipart/related; boundary="+writer.Boundary())
	resp, err := b.send(r)
	if err != nil {
		return b.toStoreError(err, name)
	}
	return finish(resp)
}

// finish reads the remaining response, so that its connection can be reused.
func finish(resp *http.Response) error {
	_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return errors.Join(err, resp.Body.Close())
}

// ReadRange reads a part of an object.
func (b *gcs) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if length == 0 {
		return http.NoBody, nil
	}
	status, byteRange := http.StatusOK, ""
	if offset > 0 || length > 0 {
		status, byteRange = http.StatusPartialContent, fmt.Sprintf("bytes=%d-", offset)
		if length > 0 {
			byteRange += fmt.Sprint(offset + length - 1)
		}
	}
	resp, err := b.request(ctx, http.MethodGet, name, url.Values{"alt": {"media"}}, byteRange)
	switch {
	case b.hasStatus(err, http.StatusRequestedRangeNotSatisfiable):
		return http.NoBody, nil // the object ends before offset
	case b.hasStatus(err, http.StatusNotFound):
		return nil, fmt.Errorf("%v/%s: %w", b, name, fs.ErrNotExist)
	case err != nil:
		return nil, b.toStoreError(err, name)
	case resp.StatusCode != status:
		_ = resp.Body.Close() // the body was not read
		return nil, fmt.Errorf("%v/%s: the server answered %s instead of sending the requested range", b, name, resp.Status)
	}
	return resp.Body, nil
}

// List lists objects, up to a thousand per request.
func (b *gcs) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		query := url.Values{"prefix": {b.prefix + prefix}, "fields": {"items(name,size,updated),nextPageToken"}}
		if after != "" {
			query.Set("startOffset", b.prefix+after+"\x00") // the smallest name greater than after
		}
		for hasMore := true; hasMore; hasMore = query.Get("pageToken") != "" {
			var page struct {
				Items []struct {
					Name    string
					Size    int64 `json:",string"`
					Updated time.Time
				}
				NextPageToken string
			}
			if err := b.readPage(ctx, query, &page); err != nil {
				yield(objstore.Object{}, b.toStoreError(err, prefix))
				return
			}
			for _, o := range page.Items {
				if !yield(objstore.Object{Name: strings.TrimPrefix(o.Name, b.prefix), Size: o.Size, Modified: o.Updated}, nil) {
					return
				}
			}
			query.Set("pageToken", page.NextPageToken)
		}
	}
}

func (b *gcs) readPage(ctx context.Context, query url.Values, result any) error {
	resp, err := b.request(ctx, http.MethodGet, "", query, "")
	if err != nil {
		return err
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, gcsPage)).Decode(result)
	return errors.Join(err, finish(resp))
}

// Delete removes an object.
func (b *gcs) Delete(ctx context.Context, name string) error {
	resp, err := b.request(ctx, http.MethodDelete, name, nil, "")
	if b.hasStatus(err, http.StatusNotFound) {
		return nil
	}
	if err != nil {
		return b.toStoreError(err, name)
	}
	return finish(resp)
}
