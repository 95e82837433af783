package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

var secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("canary-secret-of-32-bytes-length"))

func calling(url, secret string) *Sender {
	return New(Config{Host: "ops1", Zone: time.UTC, Webhook: &remora.Webhook{URL: url, Secret: func() (remora.Secret, error) { return remora.Secret(secret), nil }}})
}

func TestWebhook(t *testing.T) {
	var calls []http.Header
	var texts [][]byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
		calls, texts = append(calls, r.Header), append(texts, text)
	}))
	t.Cleanup(server.Close)
	s := calling(server.URL+"/T0K3N", secret)
	n := failed()
	n.Source = "shop\r\n<img src=x>\"}"
	for range 2 {
		require.NoError(t, s.Send(t.Context(), remora.WebhookChannel, n))
	}
	require.Equal(t, calls[0].Get("webhook-id"), calls[1].Get("webhook-id"), "a retry can be told from another notice")
	require.Len(t, calls[0].Get("webhook-id"), 32)
	at, err := strconv.ParseInt(calls[0].Get("webhook-timestamp"), 10, 64)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), time.Unix(at, 0), time.Minute)

	h := hmac.New(sha256.New, []byte("canary-secret-of-32-bytes-length"))
	h.Write([]byte(calls[0].Get("webhook-id") + "." + calls[0].Get("webhook-timestamp") + "." + string(texts[0])))
	require.Equal(t, "v1,"+base64.StdEncoding.EncodeToString(h.Sum(nil)), calls[0].Get("webhook-signature"))

	var got struct {
		Type, Host, Title, Text string
		Timestamp               time.Time
		Data                    remora.Notice
	}
	require.NoError(t, json.Unmarshal(texts[0], &got))
	require.Equal(t, "backup.failed", got.Type)
	require.Equal(t, "ops1", got.Host)
	require.Contains(t, got.Title, "backup failed")
	require.Contains(t, got.Text, "remora history")
	require.Equal(t, n.Problem, got.Data.Problem)
	require.True(t, got.Timestamp.Equal(n.At))
	require.NotContains(t, string(texts[0]), "canary")
	require.Equal(t, remora.Fine, s.Check(t.Context())[0].Level)
}

// What Standard Webhooks gives as an example verifies.
func TestSignatureIsThatOfTheConvention(t *testing.T) {
	key, err := calling("", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").key()
	require.NoError(t, err)
	require.Equal(t, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)))
}

func TestWebhookThatRefuses(t *testing.T) {
	for status, kind := range map[int]remora.ProblemKind{
		200: "", 204: "", 301: remora.Invalid, 307: remora.Invalid, 400: remora.Invalid, 401: remora.Denied, 403: remora.Denied, 404: remora.Invalid, 410: remora.Invalid,
		408: remora.Unavailable, 429: remora.Unavailable, 500: remora.Unavailable, 503: remora.Unavailable,
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			calls := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				calls++
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
			}))
			t.Cleanup(server.Close)
			err := calling(server.URL+"/T0K3N?key=T0K3N", secret).Send(t.Context(), remora.WebhookChannel, failed())
			require.Equal(t, kind, remora.KindOf(err), "%v", err)
			require.Equal(t, 1, calls, "no redirect is followed")
			if err != nil {
				p, _ := errors.AsType[*remora.Problem](err)
				require.NotEmpty(t, p.Hint)
				require.NotContains(t, err.Error()+p.Hint, "T0K3N")
				require.NotContains(t, err.Error()+p.Hint, "canary")
			}
		})
	}
}

// F45: one that hangs, is away, or does not end its answer, costs the time that a call has.
func TestWebhookThatHangs(t *testing.T) {
	hang := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(hang) })
	gone := httptest.NewServer(nil)
	gone.Close()
	for name, url := range map[string]string{"silent": silent.URL, "gone": gone.URL, "no name": "http://hooks.invalid"} {
		t.Run(name, func(t *testing.T) {
			s := calling(url+"/T0K3N", secret)
			s.webhookTime = 100 * time.Millisecond
			err := s.Send(t.Context(), remora.WebhookChannel, failed())
			require.Equal(t, remora.Unavailable, remora.KindOf(err), "%v", err)
			require.NotContains(t, err.Error(), "T0K3N")
		})
	}
}

func TestWebhookWithoutAGoodSecret(t *testing.T) {
	for _, wrong := range []string{"", "canary", "whsec_canary!", "whsec_" + base64.StdEncoding.EncodeToString([]byte("canary"))} {
		s := calling("http://127.0.0.1:1/", wrong)
		err := s.Send(t.Context(), remora.WebhookChannel, failed())
		require.Equal(t, remora.Invalid, remora.KindOf(err))
		require.NotContains(t, err.Error(), "canary")
		require.Equal(t, remora.Failing, s.Check(t.Context())[0].Level)
	}
}

// Attack 43: what a name leads to is looked at, not the name.
func TestWhereAWebhookMayBe(t *testing.T) {
	for address, allowed := range map[string]bool{
		"127.0.0.1:80": true, "[::1]:80": true, "10.1.2.3:443": true, "192.168.1.1:80": true, "[fd00::1]:80": true, "93.184.216.34:443": true,
		"169.254.169.254:80": false, "[::ffff:169.254.169.254]:80": false, "[fe80::1]:80": false, "[fe80::1%lo]:80": false,
		"0.0.0.0:80": false, "[::]:80": false, "224.0.0.1:80": false, "[ff02::1]:80": false, "[fd00:ec2::254]:80": false, "100.100.100.200:80": false, "nonsense": false,
	} {
		require.Equal(t, allowed, refuseOwn("tcp", address, nil) == nil, address)
	}
	for _, url := range []string{
		"http://169.254.169.254/latest/meta-data", "http://[::ffff:169.254.169.254]/", "http://0.0.0.0/", "http://2852039166/",
		"file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "http://\x7f/", strings.Repeat("x", 10),
	} {
		s := calling(url, secret)
		s.webhookTime = 2 * time.Second
		err := s.Send(t.Context(), remora.WebhookChannel, failed())
		require.Error(t, err)
		if !strings.Contains(url, "2852039166") { // which some resolvers take for an address, and others for no name
			require.Equal(t, remora.Invalid, remora.KindOf(err), "%s: %v", url, err)
		}
	}
}
