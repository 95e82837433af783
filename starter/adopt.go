package main

import (
	"context"
	"fmt"
	"time"

	"github.com/remora-backup/remora/internal/control"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// adoptJSON is the answer of `remora repository adopt`.
type adoptJSON struct {
	Repository string           `json:"repository"`
	Before     repository.Owner `json:"before"`
	Owner      repository.Owner `json:"owner"`
}

// idle is for how long nobody wrote for an installation that is not at work: its monitor does every hour.
const idle = 2 * time.Hour

// adopt makes this installation the owner of the repository, where the one before is gone.
func (s *session) adopt(ctx context.Context, gone string, force bool) error {
	const op = "adopt the repository"
	where := s.repository.Where()
	if s.copy != "" {
		return invalid(op, s.cfg.Repository.Where(), "it cannot be opened: "+where+" is a copy",
			"see why with `remora check`; to go on with the copy for good, make it the repository in "+s.cfg.File)
	}
	us, err := s.control.Domain(ctx)
	if err != nil {
		return err
	}
	before, err := s.repository.Owner(ctx)
	if err != nil {
		return err
	}
	answer := adoptJSON{Repository: where, Before: before, Owner: before}
	if before.Namespace == us {
		return s.app.answer(answer, func() { s.app.say("%s is ours already, since %s.", where, clock(before.Since)) })
	}
	last, err := s.repository.LastSign(ctx)
	if err != nil {
		return err
	}
	if quiet := s.app.Now().Sub(last); quiet < idle && gone == "" && before.ID != "" {
		return remora.Fail(remora.Busy, op, where,
			fmt.Sprintf("stop its workers for good, and wait until %s; or say what became of it: remora repository adopt --gone REASON", last.Add(idle).Local().Format(time.DateTime)),
			"the installation on %s is at work: it wrote there %s ago", before.Host, control.Span(quiet))
	}
	if before.ID != "" && !force {
		_, _ = fmt.Fprintf(s.app.Out, "%s belongs to the installation on %s, which last wrote %s.\nIts workers will be refused from now on, and what it left open is settled here.\n", where, before.Host, s.app.age(last))
		if err := s.app.confirm(ctx, op, before.Host); err != nil {
			return err
		}
	}
	answer.Owner = repository.NewOwner("", us, s.app.Now())
	answer.Owner.By, answer.Owner.Gone = s.app.actor(), gone
	if err := s.repository.SetOwner(ctx, answer.Owner); err != nil {
		return err
	}
	return s.app.answer(answer, func() { s.app.say("%s is ours now. See what is open with: remora status", where) })
}
