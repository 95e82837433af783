package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

func TestNotify(t *testing.T) {
	load := func(notify string, environment ...string) *Config {
		c, err := Load(write(t, "repository: {path: /b, password_env: P}\nsources: {}\n"+notify), env(append(environment, "P", "hunter2")...))
		require.NoError(t, err)
		return c
	}
	c := load(`
notify:
  email:
    to: [ops@example.com, Ada <ada@example.com>]
    from: backup@example.com
    smtp: {server: mail.example.com, user: backup, password_env: P}
  webhook: {url: "https://hooks.example.com/T0K3N", secret_env: P}
  on_success: true
  on_failure: false
`, "BACKUP_NOTIFICATION_EMAIL", "other@example.com", "BACKUP_NOTIFY_ON_SUCCESS", "false")
	e := c.Notify.Email
	require.Equal(t, []string{"ops@example.com", "ada@example.com"}, e.To, "the file counts before the environment")
	require.Equal(t, "backup@example.com", e.From)
	require.Equal(t, "mail.example.com:587", e.Server)
	require.Equal(t, "starttls", e.TLS)
	password, err := e.Password()
	require.NoError(t, err)
	require.Equal(t, remora.Secret("hunter2"), password)
	require.True(t, c.Notify.OnSuccess)
	require.False(t, c.Notify.OnFailure)
	require.Equal(t, "https://hooks.example.com/T0K3N", c.Notify.Webhook.URL)
	require.NotContains(t, strings.Join(c.Warnings, "\n"), "notify")

	for tls, server := range map[string]string{"tls": "h:465", "starttls": "h:587", "none": "h:25"} {
		require.Equal(t, server, load("notify: {email: {to: o@e.org, smtp: {server: h, tls: "+tls+"}}}").Notify.Email.Server)
	}
	require.Contains(t, strings.Join(load("notify: {email: {to: o@e.org, smtp: {server: h, tls: none}}}").Warnings, "\n"), "without encryption")
	require.Contains(t, strings.Join(load(`notify: {webhook: {url: "http://h/", secret_env: P}}`).Warnings, "\n"), "without encryption")
	require.NotContains(t, strings.Join(load("notify: {email: {to: o@e.org, smtp: {server: localhost, tls: none}}}").Warnings, "\n"), "without encryption")

	c = load("notify: {email: {smtp: {server: h}}}", "BACKUP_NOTIFICATION_EMAIL", "ops@example.com", "BACKUP_NOTIFY_ON_FAILURE", "false")
	require.Equal(t, []string{"ops@example.com"}, c.Notify.Email.To)
	require.Equal(t, "ops@example.com", c.Notify.Email.From)
	require.False(t, c.Notify.OnFailure)
}
