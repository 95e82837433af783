package activities

import (
	"context"
	"time"

	"github.com/remora-backup/remora/internal/notify"
	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
)

// Notify holds the steps that tell people.
type Notify struct {
	Sender    *notify.Sender
	Locations *repository.Locations
	Watch     Watch
}

// Register makes the steps known under their wire names.
func (n *Notify) Register(to Registry) {
	register(to, remora.ChannelsActivity, n.channels)
	act(to, n.Watch, remora.NotifyActivity, func(in remora.NotifyInput) string { return "tell " + in.To }, n.send)
	act(to, n.Watch, remora.UndeliveredActivity, func(in remora.Undelivered) string { return "record what was not delivered to " + in.To }, n.undelivered)
}

// toldAgain is how far apart the notices of a failure are that goes on and on. The monitor reminds of it as well.
const toldAgain = 6 * time.Hour

// channels are whom a notice goes to: nobody, where it is one of many.
func (n *Notify) channels(ctx context.Context, in remora.Notice) ([]string, error) {
	to := n.Sender.Channels(in)
	if len(to) == 0 || in.Event != remora.BackupFailed && in.Event != remora.SlotSkipped {
		return to, nil
	}
	r, err := n.Locations.At(ctx, "")
	if err == nil {
		var runs []remora.Backup
		if runs, err = r.List(ctx, repository.Filter{Source: in.Source, Until: in.Started}); err == nil && repeats(in, runs) {
			return nil, nil
		}
	}
	if err != nil {
		n.Watch.withDefaults().Log.WarnContext(ctx, "it is not known whether people were told already", "error", err)
	}
	return to, nil
}

// repeats tells whether people know already, by the runs before, newest first: whoever asked for this one had none but
// such runs lately, and toldAgain has not passed anew since the first of them.
func repeats(in remora.Notice, before []remora.Backup) bool {
	var last, first time.Time
	for _, b := range before {
		switch {
		case b.Purpose != remora.Regular || b.RequestedBy != in.By || b.Status == remora.Missed:
			continue
		case b.Status == remora.Failed || b.Status == remora.Skipped && in.Event == remora.SlotSkipped:
			if first = b.Started; last.IsZero() {
				last = first
			}
			continue
		case b.Status == remora.Skipped:
			continue
		}
		break
	}
	return !last.IsZero() && in.Started.Sub(first)/toldAgain == last.Sub(first)/toldAgain
}

// forgetTime bounds how long a delivery waits for the record that a channel works again.
const forgetTime = 20 * time.Second

// send tells one channel. What was told is not told again because a record could not be written.
func (n *Notify) send(ctx context.Context, in remora.NotifyInput) error {
	if err := n.Sender.Send(ctx, in.To, in.Notice); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, forgetTime)
	defer cancel()
	r, err := n.Locations.At(ctx, "")
	if err == nil {
		err = r.RecordDelivered(ctx, in.To)
	}
	if err != nil {
		n.Watch.withDefaults().Log.WarnContext(ctx, "it is not recorded that notices are delivered again", "to", in.To, "error", err)
	}
	return nil
}

func (n *Notify) undelivered(ctx context.Context, in remora.Undelivered) error {
	r, err := n.Locations.At(ctx, "")
	if err != nil {
		return err
	}
	return r.RecordUndelivered(ctx, in)
}
