package activities

import (
	"context"
	"fmt"
	"net/http"

	"github.com/remora-backup/remora/internal/maintenance"
	"github.com/remora-backup/remora/internal/remora"
)

// Checks holds the step that asks an application how it is after a restore has switched.
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
		for i, check := range checks {
			var why string
			switch {
			case check.SQL != "" && in.Online:
				continue
			case check.SQL != "":
				why, err = c.ask(ctx, in.Source, check.SQL)
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

func (c *Checks) ask(ctx context.Context, source, query string) (string, error) {
	component, err := c.Database(source)
	if err != nil {
		return "", err
	}
	checker, ok := component.(remora.Checker)
	if !ok {
		return "this kind of database cannot be asked", nil
	}
	return checker.Check(ctx, query)
}
