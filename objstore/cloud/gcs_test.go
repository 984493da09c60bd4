package cloud

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/objstore"
)

// fakeGCS starts an in-memory server that answers the driver's requests like Google Cloud Storage.
func fakeGCS(t *testing.T) *httptest.Server {
	mem := new(objstore.Memory)
	fail := func(w http.ResponseWriter, err error) {
		code := http.StatusInternalServerError
		if errors.Is(err, os.ErrNotExist) {
			code = http.StatusNotFound
		} else if errors.Is(err, os.ErrExist) {
			code = http.StatusPreconditionFailed
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"error":{"code":%d,"message":%q}}`, code, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /upload/storage/v1/b/bucket/o", func(w http.ResponseWriter, r *http.Request) {
		_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || r.URL.Query().Get("ifGenerationMatch") != "0" {
			fail(w, fmt.Errorf("the request %v has no ifGenerationMatch=0 (%w)", r.URL, err))
			return
		}
		parts := multipart.NewReader(r.Body, params["boundary"])
		meta, err := parts.NextPart()
		var o struct{ Name, CRC32C string }
		if err == nil {
			err = json.NewDecoder(meta).Decode(&o)
		}
		var data []byte
		if media, e := parts.NextPart(); e == nil {
			data, e = io.ReadAll(media)
			err = errors.Join(err, e)
		}
		if err == nil && o.CRC32C == "" {
			err = errors.New("the request has no checksum")
		}
		if err == nil {
			err = mem.Create(r.Context(), o.Name, data)
		}
		if err != nil {
			fail(w, err)
			return
		}
		fmt.Fprintf(w, `{"name":%q,"bucket":"bucket","size":"%d"}`, o.Name, len(data))
	})
	mux.HandleFunc("GET /storage/v1/b/bucket/o", func(w http.ResponseWriter, r *http.Request) {
		items := []map[string]string{}
		start := max(r.URL.Query().Get("startOffset"), r.URL.Query().Get("pageToken"))
		next := ""
		for o := range mem.List(r.Context(), r.URL.Query().Get("prefix"), "") {
			if len(items) == 2 { // end of a page
				next = o.Name
				break
			}
			if o.Name >= start {
				items = append(items, map[string]string{"name": o.Name, "size": fmt.Sprint(o.Size), "updated": o.Modified.Format("2006-01-02T15:04:05.000Z07:00")})
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"items": items, "nextPageToken": next})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		raw, ok := strings.CutPrefix(r.URL.EscapedPath(), "/storage/v1/b/bucket/o/")
		name, err := url.PathUnescape(raw)
		if !ok || err != nil {
			fail(w, fmt.Errorf("unexpected request %s %s", r.Method, r.URL))
			return
		}
		body, err := mem.ReadRange(r.Context(), name, 0, -1)
		if err != nil {
			fail(w, err)
			return
		}
		if r.Method == http.MethodDelete {
			_ = mem.Delete(r.Context(), name)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		data, _ := io.ReadAll(body)
		w.Header().Set("X-Goog-Generation", "1")
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		http.ServeContent(w, r, "", time.Now(), strings.NewReader(string(data)))
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// newTokenProxy starts a proxy that requires a token, and records the billed project.
func newTokenProxy(t *testing.T, backend *httptest.Server, token string, billed *string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*billed = r.Header.Get("X-Goog-User-Project")
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// TestGCSCredentials checks that every request has a token of the application default credentials.
func TestGCSCredentials(t *testing.T) {
	var billed string
	server := newTokenProxy(t, fakeGCS(t), "secret", &billed)
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || r.FormValue("assertion") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"secret","token_type":"Bearer","expires_in":3600}`)
	}))
	t.Cleanup(tokens.Close)
	key := must.Get(rsa.GenerateKey(rand.Reader, 2048))(t)
	encoded := must.Get(x509.MarshalPKCS8PrivateKey(key))(t)
	account := must.Get(json.Marshal(map[string]string{
		"type": "service_account", "client_email": "a@example.org", "token_uri": tokens.URL, "quota_project_id": "payer",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})),
	}))(t)
	file := filepath.Join(t.TempDir(), "account.json")
	must.Do(t, os.WriteFile(file, account, 0o600))
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
	ctx, cancel := context.WithCancel(t.Context())
	b := must.Get(openGCS(ctx, "bucket", "a/", ""))(t)
	cancel() // the bucket must not use the context of opening
	b.api = server.URL + "/storage/v1/"
	if err := b.Create(t.Context(), "x", []byte("y")); err != nil || billed != "payer" {
		t.Errorf("Create() billed project %q (error %v), want payer", billed, err)
	}
	b.client = http.DefaultClient
	must.Fail(t, b.Create(t.Context(), "z", nil), objstore.ErrRefused, "Create() without a valid token")
}

// TestGCSEmulator checks that openGCS uses the server in the variable STORAGE_EMULATOR_HOST, as Google's library does.
func TestGCSEmulator(t *testing.T) {
	server := fakeGCS(t)
	t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(server.URL, "http://"))
	b := must.Get(openGCS(t.Context(), "bucket", "", ""))(t)
	must.Do(t, b.Create(t.Context(), "a b/ü?#%", []byte("y")))
	for o, err := range b.List(t.Context(), "a b/", "") {
		if err != nil || o.Name != "a b/ü?#%" || o.Size != 1 {
			t.Errorf("List() yields %+v (error %v)", o, err)
		}
	}
	must.Get(b.ReadRange(t.Context(), "a b/ü?#%", 0, -1))(t)
	if _, err := openGCS(t.Context(), "bucket", "", "localhost:1"); err == nil {
		t.Error("openGCS() accepted an endpoint without http://")
	}
}

// TestDependencies checks that package cloud depends on no packages that make a program large.
func TestDependencies(t *testing.T) {
	out := must.Get(exec.Command("go", "list", "-deps", ".").Output())(t)
	packages := strings.Fields(string(out))
	for _, heavy := range []string{"google.golang.org/grpc", "google.golang.org/protobuf", "go.opentelemetry.io/", "github.com/envoyproxy/"} {
		if i := slices.IndexFunc(packages, func(p string) bool { return strings.HasPrefix(p, heavy) }); i >= 0 {
			t.Errorf("package cloud depends on %s", packages[i])
		}
	}
	if n := len(packages); n > 350 {
		t.Errorf("package cloud depends on %d packages, want at most 350", n)
	}
}

func TestGCS(t *testing.T) {
	server := fakeGCS(t)
	b := must.Get(openGCS(t.Context(), "bucket", "a/", server.URL+"/storage/v1/"))(t)
	checkBucket(t, b)
	must.Check(t, b.Close())
	endpoint := url.QueryEscape(server.URL + "/storage/v1/")
	for i := range 2 {
		s := openURL(t, "gs://bucket/store?memory=16MiB&endpoint="+endpoint)
		must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: fmt.Append(nil, i)}))
		values, err := s.Get(t.Context(), "k")
		if want := "01"[:i+1]; err != nil || string(values[0]) != want {
			t.Errorf("the value is %q (error %v), want %q", values, err, want)
		}
		must.Check(t, partd.Close(t.Context(), s))
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestOtherDefaultTransport checks that openGCS works if a program has set a default transport of another type.
func TestOtherDefaultTransport(t *testing.T) {
	defer func(old http.RoundTripper) { http.DefaultTransport = old }(http.DefaultTransport)
	http.DefaultTransport = roundTrip(http.DefaultTransport.RoundTrip)
	must.Get(openGCS(t.Context(), "bucket", "", "http://localhost:1/storage/v1/"))(t)
}
