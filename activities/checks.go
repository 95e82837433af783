package activities

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/remora-backup/remora/internal/maintenance"
	"github.com/remora-backup/remora/internal/remora"
)

// Checks holds the step that asks an application how it is after a restore has switched, or a database what a drill has
// built of it.
type Checks struct {
	// Of finds the checks of a source, Database its database, and Mode how it is taken offline.
	Of       func(source string) ([]remora.Check, error)
	Database func(source string) (remora.Component, error)
	Mode     func(source string) (maintenance.Mode, error)
	Watch    Watch
}

// Register makes the step known under its wire name.
func (c *Checks) Register(to Registry) { register(to, remora.ChecksActivity, c.run) }

func (c *Checks) run(ctx context.Context, in remora.ChecksInput) (remora.ChecksResult, error) {
	return plain(ctx, c.Watch, "check "+in.Source, func(ctx context.Context) (result remora.ChecksResult, err error) {
		checks, err := c.Of(in.Source)
		if err != nil {
			return result, err
		}
		pass, err := c.pass(in.Source)
		if err != nil {
			return result, err
		}
		asked, notes, err := c.asked(ctx, in)
		if err != nil {
			return result, err
		}
		result.Warnings = few(notes)
		for i, check := range checks {
			var why string
			switch {
			case check.SQL != "" && in.Online:
				continue
			case check.SQL != "" && asked == nil:
				why = "this kind of database cannot be asked"
			case check.SQL != "":
				why, err = asked.Check(ctx, check.SQL)
			case in.Run != "":
				continue
			case pass == nil && !in.Online:
				result.Later++
				continue
			default:
				why, err = maintenance.Visit(ctx, check.HTTP, pass)
			}
			if err != nil {
				return result, err
			}
			if why == "" {
				result.Passed++
			} else {
				result.Failed = append(result.Failed, fmt.Sprintf("sources.%s.checks[%d]: %s", in.Source, i, why))
			}
		}
		result.Failed = few(result.Failed)
		return result, nil
	})
}

// pass lets a request get past the maintenance: nil where there is none, or no way past it.
func (c *Checks) pass(source string) (*http.Cookie, error) {
	mode, err := c.Mode(source)
	if err != nil {
		return nil, err
	}
	if keeper, ok := mode.(interface{ Bypass() (*http.Cookie, error) }); ok {
		return keeper.Bypass()
	}
	return nil, nil
}

// asked is the database that answers: what is live, or what a drill has built; nil for one that cannot be asked. A source
// without a database has nothing to ask it.
func (c *Checks) asked(ctx context.Context, in remora.ChecksInput) (remora.Checker, []string, error) {
	component, err := c.Database(in.Source)
	if errors.Is(err, errNoComponent) {
		return nil, nil, nil
	}
	if stager, ok := component.(remora.Stager); ok && err == nil && in.Run != "" {
		return stager.Staged(ctx, in.Run)
	}
	checker, _ := component.(remora.Checker)
	if in.Run != "" {
		checker = nil // it would answer for what is live
	}
	return checker, nil, err
}
