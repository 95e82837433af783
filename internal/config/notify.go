package config

import (
	"cmp"
	"net/mail"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/remora-backup/remora/internal/remora"
)

// maxRecipients is for people; more of them have a list.
const maxRecipients = 20

// notify reads who is told what. The variables that operators of Laravel applications have count where the file does
// not say.
func (r *reader) notify(c *Config) setter {
	return func(key string, n ast.Node) {
		r.mapping(key, n, fields{
			"email":      func(key string, n ast.Node) { c.Notify.Email = r.email(c, key, n) },
			"webhook":    func(key string, n ast.Node) { c.Notify.Webhook = r.webhook(c, key, n) },
			"on_success": r.flag(&c.Notify.OnSuccess),
			"on_failure": r.flag(&c.Notify.OnFailure),
		})
	}
}

// recipients reads one address, or a list.
func (r *reader) recipients(to *[]string) setter {
	return func(key string, n ast.Node) {
		var all []string
		if list, ok := n.(*ast.SequenceNode); ok {
			r.texts(&all)(key, n)
			if len(list.Values) == 0 || len(list.Values) > maxRecipients {
				r.wrong(key, n, "write one mail address, or a list of up to %d", maxRecipients)
			}
		} else if one, ok := r.line(key, n); ok {
			all = []string{one}
		}
		for _, text := range all {
			address, wrong := mailAddress(text)
			if wrong != "" {
				r.wrong(key, n, "%s", wrong)
			}
			*to = append(*to, address)
		}
	}
}

func mailAddress(text string) (address, wrong string) {
	a, err := mail.ParseAddress(strings.TrimSpace(text))
	if err != nil {
		return "", "this is not a mail address; write NAME@HOST"
	}
	return a.Address, ""
}

func (r *reader) email(c *Config, key string, n ast.Node) *remora.Email {
	e := &remora.Email{TLS: "starttls"}
	r.mapping(key, n, fields{
		"to": r.recipients(&e.To),
		"from": r.lined(func(text string) (wrong string) {
			e.From, wrong = mailAddress(text)
			return wrong
		}),
		"smtp": func(key string, n ast.Node) { r.smtp(c, e, key, n) },
	})
	r.need(key, "smtp", "{server: HOST:PORT}, the server that takes the mail")
	if len(e.To) == 0 && !r.has(key, "to") && r.getenv("BACKUP_NOTIFICATION_EMAIL") == "" {
		r.wrongKey(key, "it needs to: NAME@HOST")
	}
	return e
}

func (r *reader) smtp(c *Config, e *remora.Email, key string, n ast.Node) {
	password := secret{key: key, name: "password"}
	var server ast.Node // its port depends on tls
	r.mapping(key, n, r.places(fields{
		"server": func(_ string, n ast.Node) { server = n },
		"user":   r.text(&e.User),
		"tls": r.lined(func(text string) string {
			if e.TLS = text; text != "starttls" && text != "tls" && text != "none" {
				return "write starttls, tls or none"
			}
			return ""
		}),
	}, &password))
	r.need(key, "server", "HOST:PORT")
	port := cmp.Or(map[string]string{"tls": "465", "none": "25"}[e.TLS], "587")
	if server != nil {
		r.address(&e.Server, port)(below(key, "server"), server)
	}
	e.Password = r.secret(c, password, "")
	switch known := r.has(key, "password_file", "password_env"); {
	case e.User != "" && !known:
		r.wrongKey(key, "a user has a password; write password_file: FILE or password_env: VARIABLE")
	case e.User == "" && known:
		r.wrongKey(key, "a password belongs to a user; write user: NAME")
	case e.User != "" && e.TLS == "none":
		r.wrongKey(below(key, "tls"), "a password is not told without encryption; write starttls or tls, or remove the user")
	}
	if e.TLS == "none" && elsewhere(e.Server) {
		c.Warnings = append(c.Warnings, "notify.email.smtp.tls: mail goes to "+e.Server+" without encryption, and anybody between can read it")
	}
}

func (r *reader) webhook(c *Config, key string, n ast.Node) *remora.Webhook {
	w := &remora.Webhook{}
	from := secret{key: key, name: "secret"}
	r.mapping(key, n, r.places(fields{"url": r.url(&w.URL)}, &from))
	r.need(key, "url", "https://HOST/PATH")
	needed := ""
	if isMapping(n) {
		needed = "what is sent is signed"
	}
	w.Secret = r.secret(c, from, needed)
	if openly(w.URL) {
		c.Warnings = append(c.Warnings, "notify.webhook.url: it is called without encryption, and anybody between can read what is told")
	}
	return w
}

// notifyVariables reads those that are there already.
func (r *reader) notifyVariables(c *Config) {
	if text := r.getenv("BACKUP_NOTIFICATION_EMAIL"); text != "" && !r.has("notify.email", "to") {
		to, wrong := mailAddress(text)
		switch {
		case wrong != "":
			r.add(Mistake{Key: "BACKUP_NOTIFICATION_EMAIL", Text: "the environment variable must be a mail address"})
		case c.Notify.Email == nil:
			c.Warnings = append(c.Warnings, "BACKUP_NOTIFICATION_EMAIL: no mail is sent, since no server is configured; write notify: {email: {smtp: {server: HOST:PORT}}}")
		default:
			c.Notify.Email.To = []string{to}
		}
	}
	for name, to := range map[string]*bool{"on_success": &c.Notify.OnSuccess, "on_failure": &c.Notify.OnFailure} {
		if !r.has("notify", name) {
			r.switchVariable("BACKUP_NOTIFY_"+strings.ToUpper(name), to)
		}
	}
	if e := c.Notify.Email; e != nil && e.From == "" && len(e.To) > 0 {
		e.From = e.To[0]
	}
}
