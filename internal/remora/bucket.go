package remora

import "strings"

// Bucket is a place in a storage that speaks S3. Its keys are read when they are needed, so that files may be rotated.
type Bucket struct {
	// Endpoint is HOST:PORT, or HOST with the usual port.
	Endpoint string
	// Plain leaves out TLS.
	Plain bool
	Name  string
	// Prefix is what the names of all objects begin with; it is empty or ends with a slash.
	Prefix string
	// Region may be empty: then the storage is asked.
	Region string
	// PathStyle puts the bucket into the path, never into the name of the host. It is what most storages but Amazon's
	// get anyway.
	PathStyle bool
	// CAFile holds, in PEM, whom to trust in place of the system's authorities. It may be empty.
	CAFile string
	// AccessKey and SecretKey say who asks. SessionToken may be nil.
	AccessKey, SecretKey, SessionToken SecretFunc
	// Lock is what a new repository asks of the bucket.
	Lock ObjectLock
}

// ObjectLock keeps what is written from being deleted or replaced, by anybody, for some days. The zero value does not.
type ObjectLock struct {
	// Mode is Compliance or Governance.
	Mode string
	Days int
}

// The modes of an object lock: nobody lifts the first, a person with a right of its own the second.
const (
	Compliance = "compliance"
	Governance = "governance"
)

// String is how people write it: s3:https://HOST/BUCKET/PREFIX. It is empty for nil.
func (b *Bucket) String() string {
	if b == nil {
		return ""
	}
	scheme := "https"
	if b.Plain {
		scheme = "http"
	}
	return strings.TrimSuffix("s3:"+scheme+"://"+b.Endpoint+"/"+b.Name+"/"+b.Prefix, "/")
}
