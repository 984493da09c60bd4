package cloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"strings"
	"sync"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/go-partd/partd/objstore"
)

type s3 struct {
	remote
	client *minio.Client
}

// openS3 returns a bucket without making a request. Credentials come from the environment variables
// or files of AWS's own programs, or from the machine's role.
func openS3(bucket, prefix, region, endpoint string) (*s3, error) {
	host := "s3.amazonaws.com"
	secure := true
	lookup := minio.BucketLookupAuto
	if endpoint != "" {
		const usage = "write https://HOST or http://HOST:PORT"
		u, err := parseEndpoint(endpoint, usage)
		if err != nil {
			return nil, err
		}
		if strings.Trim(u.Path, "/") != "" {
			return nil, fmt.Errorf("endpoint %q: %s", endpoint, usage)
		}
		host = u.Host
		secure = u.Scheme == "https"
		lookup = minio.BucketLookupPath
	}
	transport, err := minio.DefaultTransport(secure)
	if err != nil {
		return nil, err
	}
	b := &s3{remote: newRemote("s3", bucket, prefix, transport)}
	b.client, err = minio.New(host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{},
			&credentials.IAM{Client: &http.Client{Transport: transport}},
		}),
		Secure: secure, Region: region, BucketLookup: lookup, Transport: transport,
		MaxRetries: 1, // a retried create could report that the object exists, although the first try created it
	})
	return b, err
}

// Create creates an object if it does not exist (If-None-Match: *). The server verifies the checksum
// in the request.
func (b *s3) Create(ctx context.Context, name string, data []byte) error {
	opts := minio.PutObjectOptions{
		DisableMultipart: true, DisableContentSha256: true, ContentType: "application/octet-stream",
		// With this spelling of the name, minio sends the header unchanged and adds no trailer.
		UserMetadata: map[string]string{"X-Amz-Checksum-Crc32c": checksum(data)},
	}
	opts.SetMatchETagExcept("*")
	body := &borrowedReader{r: bytes.NewReader(data)}
	defer body.release()
	_, err := b.client.PutObject(ctx, b.bucket, b.prefix+name, body, int64(len(data)), opts)
	return b.toStoreError(err, name)
}

// borrowedReader reads a request's body from memory that the caller reuses after release. A closing
// connection may still read the body of a finished request, so Read returns an error after release.
type borrowedReader struct {
	mu sync.Mutex
	r  *bytes.Reader
}

func (b *borrowedReader) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.r == nil {
		return 0, errors.New("the request has ended")
	}
	return b.r.Read(p)
}

func (b *borrowedReader) release() {
	b.mu.Lock()
	b.r = nil
	b.mu.Unlock()
}

// toStoreError converts an error as [objstore.Bucket] requires.
func (b *s3) toStoreError(err error, name string) error {
	var r minio.ErrorResponse
	switch {
	case err == nil, !errors.As(err, &r), r.Code == "RequestTimeout", r.Code == "BadDigest":
		return err
	case r.Code == minio.NoSuchKey:
		return fmt.Errorf("%v/%s: %w", b, name, fs.ErrNotExist)
	}
	return b.remote.toStoreError(err, name, r.StatusCode)
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
	return r, b.toStoreError(err, name)
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
				yield(objstore.Object{}, b.toStoreError(o.Err, prefix))
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
	err := b.toStoreError(b.client.RemoveObject(ctx, b.bucket, b.prefix+name, minio.RemoveObjectOptions{}), name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
