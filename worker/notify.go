package main

import (
	"cmp"
	"os"

	"github.com/remora-backup/remora/internal/config"
	"github.com/remora-backup/remora/internal/notify"
)

// newSender tells people what the configuration wants them to be told.
func newSender(cfg *config.Config) *notify.Sender {
	host, _ := os.Hostname() // it only tells machines apart
	c := notify.Config{Host: cmp.Or(host, "an unnamed machine"), OnSuccess: cfg.Notify.OnSuccess, OnFailure: cfg.Notify.OnFailure}
	if e := cfg.Notify.Email; e != nil {
		mail := notify.Email(*e)
		c.Email = &mail
	}
	if w := cfg.Notify.Webhook; w != nil {
		hook := notify.Webhook(*w)
		c.Webhook = &hook
	}
	return notify.New(c)
}
