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
	register(to, remora.ChannelsActivity, func(_ context.Context, in remora.Notice) ([]string, error) { return n.Sender.Channels(in), nil })
	register(to, remora.NotifyActivity, n.send)
	register(to, remora.UndeliveredActivity, n.undelivered)
}

// forgetTime bounds how long a delivery waits for the record that a channel works again.
const forgetTime = 20 * time.Second

// send tells one channel. What was told is not told again because a record could not be written.
func (n *Notify) send(ctx context.Context, in remora.NotifyInput) error {
	return act(ctx, n.Watch, "tell "+in.To, func(ctx context.Context) error {
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
	})
}

func (n *Notify) undelivered(ctx context.Context, in remora.Undelivered) error {
	return act(ctx, n.Watch, "record what was not delivered to "+in.To, func(ctx context.Context) error {
		r, err := n.Locations.At(ctx, "")
		if err != nil {
			return err
		}
		return r.RecordUndelivered(ctx, in)
	})
}
