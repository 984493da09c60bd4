package cloud

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/go-partd/partd/objstore"
)

type s3 struct {
	client    *minio.Client
	transport *http.Transport
	bucket    string
	prefix    string // empty, or ends with a slash
}

// openS3 returns a bucket without making a request. Credentials come from the environment variables
// or files of AWS's own programs, or from the machine's role.
func openS3(bucket, prefix, region, endpoint string) (*s3, error) {
	host, secure, lookup := "s3.amazonaws.com", true, minio.BucketLookupAuto
	if endpoint != "" {
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
			return nil, fmt.Errorf("endpoint %q: write https://HOST or http://HOST:PORT", endpoint)
		}
		host, secure, lookup = u.Host, u.Scheme == "https", minio.BucketLookupPath
	}
	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, err
	}
	transport.MaxIdleConnsPerHost = 64
	transport.DisableCompression = true
	client, err := minio.New(host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{},
			&credentials.IAM{Client: &http.Client{Transport: transport}},
		}),
		Secure: secure, Region: region, BucketLookup: lookup, Transport: transport,
		MaxRetries: 1, // a retried create could report that the object exists, although the first try created it
	})
	if err != nil {
		return nil, err
	}
	return &s3{client, transport, bucket, prefix}, nil
}

func (b *s3) String() string { return strings.TrimSuffix("s3://"+b.bucket+"/"+b.prefix, "/") }

// Close closes idle connections.
func (b *s3) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// Create creates an object if it does not exist (If-None-Match: *). The server verifies the checksum
// in the request.
func (b *s3) Create(ctx context.Context, name string, data []byte) error {
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli))
	opts := minio.PutObjectOptions{
		DisableMultipart: true, DisableContentSha256: true, ContentType: "application/octet-stream",
		// With this spelling, the client sends the header unchanged and adds no trailer.
		UserMetadata: map[string]string{"X-Amz-Checksum-Crc32c": base64.StdEncoding.EncodeToString(sum)},
	}
	opts.SetMatchETagExcept("*")
	body := &borrowedReader{r: bytes.NewReader(data)}
	defer body.release()
	_, err := b.client.PutObject(ctx, b.bucket, b.prefix+name, body, int64(len(data)), opts)
	return b.storeError(err, name)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// borrowedReader reads bytes that the caller may reuse after release. After release, Read returns an
// error, because a closing connection may still read the body of a finished request.
type borrowedReader struct {
	mu sync.Mutex
	r  *bytes.Reader
}

func (l *borrowedReader) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.r == nil {
		return 0, errors.New("the request has ended")
	}
	return l.r.Read(p)
}

func (l *borrowedReader) release() {
	l.mu.Lock()
	l.r = nil
	l.mu.Unlock()
}

// storeError converts an error as [objstore.Bucket] requires. It does not change transient errors and
// status 409, because they do not show whether the object exists.
func (b *s3) storeError(err error, name string) error {
	if err == nil {
		return nil
	}
	var r minio.ErrorResponse
	if !errors.As(err, &r) {
		return err
	}
	objectPath := b.String() + "/" + name
	switch {
	case r.StatusCode == http.StatusPreconditionFailed:
		return fmt.Errorf("%s: %w", objectPath, fs.ErrExist)
	case r.Code == minio.NoSuchKey:
		return fmt.Errorf("%s: %w", objectPath, fs.ErrNotExist)
	case r.StatusCode == http.StatusRequestTimeout, r.StatusCode == http.StatusConflict, r.StatusCode == http.StatusTooManyRequests,
		r.Code == "RequestTimeout", r.Code == "BadDigest", r.StatusCode < 400, r.StatusCode >= 500:
		return err
	}
	return fmt.Errorf("%s: %w: %w", objectPath, objstore.ErrRefused, err)
}

// ReadRange reads a part of an object.
func (b *s3) ReadRange(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if length == 0 {
		return http.NoBody, nil
	}
	opts := minio.GetObjectOptions{}
	if offset > 0 || length > 0 {
		end := int64(0) // to the end of the object
		if length > 0 {
			end = offset + length - 1
		}
		if err := opts.SetRange(offset, end); err != nil {
			return nil, err
		}
	}
	r, _, _, err := (&minio.Core{Client: b.client}).GetObject(ctx, b.bucket, b.prefix+name, opts)
	if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return http.NoBody, nil // the object ends before offset
	}
	return r, b.storeError(err, name)
}

// List lists objects, up to a thousand per request.
func (b *s3) List(ctx context.Context, prefix, after string) iter.Seq2[objstore.Object, error] {
	return func(yield func(objstore.Object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		opts := minio.ListObjectsOptions{Prefix: b.prefix + prefix, Recursive: true}
		if after != "" {
			opts.StartAfter = b.prefix + after
		}
		for o := range b.client.ListObjectsIter(ctx, b.bucket, opts) {
			if o.Err != nil {
				yield(objstore.Object{}, b.storeError(o.Err, prefix))
				return
			}
			if !yield(objstore.Object{Name: strings.TrimPrefix(o.Key, b.prefix), Size: o.Size, Modified: o.LastModified}, nil) {
				return
			}
		}
	}
}

// Delete removes an object. It ignores status 404, which some gateways return if another client
// deletes the object at the same time.
func (b *s3) Delete(ctx context.Context, name string) error {
	err := b.storeError(b.client.RemoveObject(ctx, b.bucket, b.prefix+name, minio.RemoveObjectOptions{}), name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
