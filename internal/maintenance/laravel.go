package maintenance

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"time"
)

// Laravel takes a Laravel application (8 or later) offline by the file that `php artisan down` writes, so that its own
// middleware, `php artisan up` and Remora agree. dir is the application's directory; it may lead over links to a
// release, whose storage is shared. The file that artisan writes beside it, maintenance.php, shows a page that was
// rendered before; without such a page the application needs none, and where one is left over it finds no page in our
// file and does nothing.
func Laravel(dir string) Mode {
	path := filepath.Join(dir, "storage", "framework", "down")
	return &laravel{file{
		path: path, title: "Laravel in " + dir,
		missing: "is " + dir + " the directory of a Laravel application? There is no " + filepath.Dir(path) + "; correct maintenance.laravel",
		text:    newDown,
		mark: func(text []byte) (mark, error) {
			var d down
			err := json.Unmarshal(text, &d)
			return d.Remora, err
		},
	}}
}

type laravel struct{ file }

// down is the content of Laravel's file, with one key more, which Laravel does not look at: whose it is.
type down struct {
	Except   []string `json:"except"`
	Redirect *string  `json:"redirect"`
	Retry    *int     `json:"retry"`
	Refresh  *int     `json:"refresh"`
	Secret   string   `json:"secret"`
	Status   int      `json:"status"`
	Template *string  `json:"template"`
	Remora   mark     `json:"remora"`
}

// newDown has a secret of its own each time: by it our checks get past the maintenance, and nobody else.
func newDown(m mark) ([]byte, error) {
	retry := 10 // seconds; a switch takes about one
	d := down{Except: []string{}, Retry: &retry, Secret: rand.Text(), Status: http.StatusServiceUnavailable, Remora: m}
	return json.MarshalIndent(d, "", "    ") //nolint:gosec // G117: that is what the file is for
}

// bypassTime is how long a pass is valid; a check takes seconds.
const bypassTime = 10 * time.Minute

// Bypass gives the cookie that lets a request past the maintenance, made from the secret in the file: nil where the
// application is online, or went offline without a secret.
func (l *laravel) Bypass() (*http.Cookie, error) {
	text, err := l.read()
	if err != nil {
		return nil, l.problem("get past the maintenance", err)
	}
	var d down
	if json.Unmarshal(text, &d) != nil || d.Secret == "" {
		return nil, nil //nolint:nilerr // a file without a secret lets nobody in, whatever else is in it
	}
	until := time.Now().Add(bypassTime).Unix()
	mac := hmac.New(sha256.New, []byte(d.Secret))
	mac.Write([]byte(strconv.FormatInt(until, 10)))
	pass, err := json.Marshal(map[string]any{"expires_at": until, "mac": hex.EncodeToString(mac.Sum(nil))})
	if err != nil {
		return nil, err
	}
	return &http.Cookie{Name: "laravel_maintenance", Value: url.QueryEscape(base64.StdEncoding.EncodeToString(pass))}, nil //nolint:gosec // G124: we send it, and set none
}
