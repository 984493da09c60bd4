package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Lender issues temporary credentials for an S3 bucket to other programs, as the properties that
// Iceberg engines use: s3.region, s3.access-key-id and so on.
type Lender struct {
	Role string // ARN of the role whose credentials Lend issues

	bucket, region, endpoint string
	provider                 credentials.Provider

	mu     sync.Mutex
	cached map[string]credentials.Value // keyed by policy
}

const (
	validity  = time.Hour
	maxCached = 1000
)

// NewLender returns a Lender for the bucket of a URL, or nil if the URL is not for S3.
func NewLender(rawURL, role string) (*Lender, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "s3" {
		return nil, err
	}
	return &Lender{Role: role, bucket: u.Host, region: u.Query().Get("region"), endpoint: u.Query().Get("endpoint"), cached: map[string]credentials.Value{}, provider: &credentials.Chain{
		Providers: []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{}},
	}}, nil
}

// Settings returns the properties that describe the bucket's location. They are not secret.
func (l *Lender) Settings() map[string]string {
	s := map[string]string{}
	if l.region != "" {
		s["s3.region"], s["client.region"] = l.region, l.region
	}
	if l.endpoint != "" {
		s["s3.endpoint"], s["s3.path-style-access"] = l.endpoint, "true"
	}
	return s
}

// Lend returns temporary credentials of the role, restricted to the objects below a location in the
// bucket. If write is false, the credentials only permit reading.
func (l *Lender) Lend(ctx context.Context, location string, write bool) (map[string]string, error) {
	prefix, ok := strings.CutPrefix(location, "s3://"+l.bucket+"/")
	if !ok || strings.ContainsAny(prefix, "*?") {
		return nil, fmt.Errorf("location %q is not in the bucket %s, so no credentials can be issued for it", location, l.bucket)
	}
	policy, err := policyFor(l.bucket, prefix, write)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	v := l.cached[policy]
	l.mu.Unlock()
	if time.Until(v.Expiration) < validity/2 {
		v, err = l.assumeRole(ctx, policy)
		if err != nil {
			return nil, fmt.Errorf("credentials of role %q for %s: %w", l.Role, location, err)
		}
	}
	return map[string]string{
		"s3.access-key-id": v.AccessKeyID, "s3.secret-access-key": v.SecretAccessKey, "s3.session-token": v.SessionToken,
		"s3.session-token-expires-at-ms": strconv.FormatInt(v.Expiration.UnixMilli(), 10),
	}, nil
}

// assumeRole requests temporary credentials for the role, restricted by policy.
func (l *Lender) assumeRole(ctx context.Context, policy string) (v credentials.Value, err error) {
	credCtx := &credentials.CredContext{Client: &http.Client{Timeout: time.Minute}, Context: ctx}
	creds, err := l.provider.RetrieveWithCredContext(credCtx)
	if err != nil {
		return v, err
	}
	endpoint := l.endpoint
	if endpoint == "" {
		endpoint = strings.Replace("https://sts."+l.region+".amazonaws.com", "..", ".", 1)
	}
	sts := &credentials.STSAssumeRole{STSEndpoint: endpoint, Options: credentials.STSAssumeRoleOptions{
		AccessKey: creds.AccessKeyID, SecretKey: creds.SecretAccessKey, SessionToken: creds.SessionToken, Location: l.region,
		RoleARN: l.Role, RoleSessionName: "partd-tables", Policy: policy, DurationSeconds: int(validity.Seconds()),
	}}
	v, err = sts.RetrieveWithCredContext(credCtx)
	if err != nil {
		return v, err
	}
	if v.SessionToken == "" || v.Expiration.IsZero() || v.SecretAccessKey == creds.SecretAccessKey {
		return v, fmt.Errorf("%s did not issue temporary credentials", endpoint)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.cached) >= maxCached {
		clear(l.cached)
	}
	l.cached[policy] = v
	return v, nil
}

// policyFor returns a policy for reading or writing objects below a prefix, but not for
// deleting.
func policyFor(bucket, prefix string, write bool) (string, error) {
	type jsonObject = map[string]any
	actions := []string{"s3:GetObject"}
	if write {
		actions = append(actions, "s3:PutObject", "s3:AbortMultipartUpload")
	}
	arn := "arn:aws:s3:::" + bucket
	b, err := json.Marshal(jsonObject{"Version": "2012-10-17", "Statement": []jsonObject{
		{"Effect": "Allow", "Action": actions, "Resource": arn + "/" + prefix + "/*"},
		{
			"Effect": "Allow", "Action": []string{"s3:ListBucket"}, "Resource": arn,
			"Condition": jsonObject{"StringLike": jsonObject{"s3:prefix": prefix + "/*"}},
		},
	}})
	return string(b), err
}
