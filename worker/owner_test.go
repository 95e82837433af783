package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/remora-backup/remora/internal/remora"
	"github.com/remora-backup/remora/internal/repository"
	"github.com/remora-backup/remora/internal/testenv"
)

// TestS11NoStepWaitsForAStorageThatNeverAnswers: a disk of a network that is away hangs whoever asks it, and hears of no
// context. What is on its way back must come to its end all the same.
func TestS11NoStepWaitsForAStorageThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		answer := make(chan error)
		g := &gate{log: quiet, look: func(context.Context) error {
			looks++
			return <-answer
		}}
		pass := func() (time.Duration, error) {
			began := time.Now()
			err := g.pass(t.Context())
			return time.Since(began), err
		}
		for range 3 { // nobody has looked for long: the first step waits, and none of those after it
			first, err := pass()
			require.NoError(t, err)
			require.Equal(t, ownerTime, first)
			for range 5 {
				time.Sleep(ownerAge)
				took, err := pass()
				require.NoError(t, err)
				require.Zero(t, took)
			}
			time.Sleep(ownerLimit)
		}
		require.Equal(t, 1, looks, "it still waits for that answer")

		answer <- remora.Fail(remora.Fenced, "act", "", "", "it is another's")
		synctest.Wait()
		go func() { answer <- errors.New("away") }()
		_, err := pass()
		require.Equal(t, remora.Fenced, remora.KindOf(err), "while nobody can tell, it is as it was")
		go func() { answer <- nil }()
		_, err = pass() // whoever was kept back asks each time
		require.NoError(t, err)
	})
}

// TestS11WhoseTheRepositoryIs has two Temporals ask for one repository.
func TestS11WhoseTheRepositoryIs(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	at := repository.Config{
		Path: filepath.Join(dir, "repository"), State: filepath.Join(dir, "state"),
		Password: func() (remora.Secret, error) { return "a password", nil },
	}
	require.NoError(t, repository.Create(ctx, at))
	locations := repository.NewLocations(at, nil)
	t.Cleanup(func() { _ = locations.Close(ctx) })
	server := testenv.Temporal(t)
	c := server.Client(t)
	const fresh = "remora-afresh"
	_, err := c.WorkflowService().RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{Namespace: fresh, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour)})
	require.NoError(t, err)
	known := filepath.Join(dir, "owner")
	ours := &ownership{locations, c, server.Namespace, known, quiet}
	for range 2 {
		require.NoError(t, ours.look(ctx))
	}
	require.NoError(t, (&ownership{locations, c, fresh, known, quiet}).look(ctx), "this machine lost its Temporal")
	require.NoError(t, ours.look(ctx), "and found it again")

	r, err := locations.At(ctx, "")
	require.NoError(t, err)
	full := filepath.Join(dir, "no directory", "owner") // which cannot be written
	other := &ownership{locations, c, fresh, full, quiet}
	require.Equal(t, remora.Fenced, remora.KindOf(other.look(ctx)))
	found, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: fresh})
	require.NoError(t, err)
	require.NoError(t, r.SetOwner(ctx, repository.Owner{ID: "another", Namespace: found.GetNamespaceInfo().GetId()}))
	require.NoError(t, other.look(ctx), "it is ours, though this machine has no room to remember it")
	require.Equal(t, remora.Fenced, remora.KindOf(ours.look(ctx)), "and no more theirs")
}
