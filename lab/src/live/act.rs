//! What the bench does when it is told to.

use super::action::{Action, Every, Id};
use super::advice::advice;
use super::bench::Bench;
use super::config::{Change, NETWORKS, NetworkConfig, within};
use super::frame::Advice;
use super::network::Network;
use super::text::Text;

/// What a frame must show anew after an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the numbers stay true.
    None,
    /// The networks: look at them again.
    Networks,
    /// The panel "at test time" and the answers.
    Test,
    /// What needs an evaluation: the networks have just been looked at.
    Stepped,
    /// Everything: the numbers will stay for a while.
    Paused,
}

impl Bench {
    /// Does what an action asks for.
    ///
    /// # Errors
    ///
    /// It cannot be done: a sentence that says why. The bench is then as it was.
    pub fn act(&mut self, action: &Action) -> Result<Effect, Text> {
        match action {
            Action::Play { until } => {
                self.playing = until.is_none_or(|until| until > self.step);
                self.until = *until;
            }
            Action::Pause {} => self.playing = false,
            Action::Step {} => {
                self.playing = false;
                self.advance_watched();
                return Ok(Effect::Stepped);
            }
            Action::Restart {} => self.restart_with(None),
            Action::Setup { bench, play, until } => {
                bench.validate()?;
                self.setup(bench);
                self.playing = play.unwrap_or(bench.play) && until.is_none_or(|until| until > 0);
                self.until = *until;
            }
            Action::Set { network, change } => self.set(*network, change)?,
            Action::Add { config } => self.add(config.clone(), None)?,
            Action::Remove { network } => self.remove(*network)?,
            Action::Fork {
                network,
                at,
                change,
            } => {
                self.fork(*network, *at, &change.clone().unwrap_or_default())?;
            }
            Action::Rewind { step } => self.rewind(*step)?,
            Action::Multiply {
                network,
                layer,
                factor,
            } => self.find(*network)?.multiply(*layer, *factor)?,
            Action::Kill {
                network,
                layer,
                share,
            } => self.find(*network)?.kill(*layer, *share)?,
            Action::Affine {
                network,
                layer,
                gamma,
                beta,
            } => {
                self.find(*network)?.set_affine(*layer, *gamma, *beta)?;
            }
            Action::Recalibrate { network } => {
                let sample = self.sample();
                self.find(*network)?.recalibrate(&sample)?;
            }
            Action::Watch { every, units } => {
                if let Some(Every::Steps(steps)) = every {
                    within("every", *steps, 1..=1000)?;
                }
                if let Some(Some(units)) = units {
                    let depth = match units.network {
                        Some(id) => self.find(id)?.config.depth,
                        None => self
                            .networks
                            .iter()
                            .map(|it| it.config.depth)
                            .max()
                            .unwrap_or(1),
                    };
                    within("layer", units.layer, 0..=depth - 1)?;
                }
                self.every = every.unwrap_or(self.every);
                self.units_of = units.unwrap_or(self.units_of);
            }
            Action::Test(setting) => {
                self.evaluation.set(setting.clone())?;
                self.evaluate();
                return Ok(Effect::Test);
            }
            Action::Advise { network, finding } => self.advise(*network, finding)?,
        }
        Ok(match action {
            Action::Play { .. } | Action::Watch { .. } => Effect::None,
            Action::Pause {} => Effect::Paused,
            _ => Effect::Networks,
        })
    }

    fn position(&self, id: Id) -> Result<usize, Text> {
        let found = self.networks.iter().position(|it| it.id == id);
        found.ok_or_else(|| {
            let ids: Vec<_> = self.ids().iter().map(Id::to_string).collect();
            Text::new(
                format!("there is no network {id}; there are {}", ids.join(", ")),
                format!(
                    "{id}번 신경망이 없습니다. 있는 것은 {}번입니다",
                    ids.join(", ")
                ),
            )
        })
    }

    fn find(&mut self, id: Id) -> Result<&mut Network, Text> {
        let position = self.position(id)?;
        Ok(&mut self.networks[position])
    }

    /// Checks the bench with another network in place of the one at this position, or beside the others.
    fn check(&self, config: &NetworkConfig, position: Option<usize>) -> Result<(), Text> {
        let mut bench = self.config();
        match position {
            Some(position) => bench.networks[position] = config.clone(),
            None if bench.networks.len() == NETWORKS => {
                return Err(Text::new(
                    format!(
                        "there are {NETWORKS} networks already, the most that fit; remove one first"
                    ),
                    format!("신경망은 {NETWORKS}개까지입니다. 먼저 하나를 없애세요"),
                ));
            }
            None => bench.networks.push(config.clone()),
        }
        bench.validate()
    }

    fn set(&mut self, id: Id, change: &Change) -> Result<(), Text> {
        let position = self.position(id)?;
        let batch = self.batch;
        let network = &self.networks[position];
        let config = network.config.with(change);
        self.check(&config, Some(position))?;
        match network.config.same_weights(&config) {
            true => self.networks[position].change_to(config, batch),
            false => {
                self.networks[position].config = config;
                self.restart_with(None);
            }
        }
        Ok(())
    }

    fn add(&mut self, config: NetworkConfig, parent: Option<Id>) -> Result<(), Text> {
        self.check(&config, None)?;
        self.restart_with(Some((config, parent)));
        Ok(())
    }

    fn remove(&mut self, id: Id) -> Result<(), Text> {
        let position = self.position(id)?;
        if self.networks.len() == 1 {
            return Err(Text::new(
                "this is the last network; the bench needs one",
                "마지막 신경망입니다. 적어도 하나는 있어야 합니다",
            ));
        }
        self.networks.remove(position);
        if self.units_of.is_some_and(|it| it.network == Some(id)) {
            self.units_of = None;
        }
        Ok(())
    }

    fn fork(&mut self, id: Id, at: Option<usize>, change: &Change) -> Result<(), Text> {
        let position = self.position(id)?;
        let config = self.networks[position].config.with(change);
        self.check(&config, None)?;
        if !self.networks[position].config.same_weights(&config) {
            return self.add(config, Some(id));
        }
        if let Some(step) = at {
            self.rewind(step)?;
        }
        let parent = &self.networks[position];
        let mut copy = parent.copy();
        copy.id = self.next_id;
        copy.origin = Some((id, self.step));
        copy.change_to(config, self.batch);
        self.next_id += 1;
        // Before the fork, the copy was the original.
        let new = copy.id;
        for networks in self.kept.values_mut() {
            let before = networks.iter().find(|it| it.id == id).map(Network::copy);
            networks.extend(before.map(|it| Network { id: new, ..it }));
        }
        self.networks.insert(position + 1, copy);
        self.kept.limit(self.most_kept());
        Ok(())
    }

    fn rewind(&mut self, step: usize) -> Result<(), Text> {
        let Some((step, kept)) = self.kept.at(step) else {
            return Err(Text::new("no step is kept", "저장된 스텝이 없습니다"));
        };
        let restored = self.networks.iter().map(|present| {
            let before = kept.iter().find(|it| it.id == present.id)?;
            let mut network = before.copy();
            network.origin = present.origin.map(|(parent, at)| (parent, at.min(step)));
            // Settings stay as they are now: only what was learned goes back.
            network.change_to(present.config.clone(), self.batch);
            Some(network)
        });
        self.networks = restored.collect::<Option<_>>().ok_or_else(|| {
            Text::new(
                format!("step {step} is not kept for every network"),
                format!("{step}번째 스텝이 모든 신경망에 대해 저장되어 있지는 않습니다"),
            )
        })?;
        self.step = step;
        self.kept.truncate(step);
        self.seen.clear();
        Ok(())
    }

    fn advise(&mut self, id: Id, kind: &str) -> Result<(), Text> {
        let position = self.position(id)?;
        let network = &self.networks[position];
        let findings = self.seen.get(&id).map(|seen| seen.report.diagnose());
        let findings = findings.unwrap_or_default();
        let found = findings.iter().find(|it| it.kind() == kind);
        let advice: Option<Advice> = found.and_then(|it| advice(it, &network.config));
        let Some(Advice { change, .. }) = advice else {
            return Err(Text::new(
                format!("there is no advice for `{kind}` of network {id} now"),
                format!("지금 {id}번 신경망의 `{kind}`에 대한 조언이 없습니다"),
            ));
        };
        let at = network.lost.as_ref().map(|lost| {
            // Weights that are lost cannot be cured: go back to where they were not.
            let healthy = self.kept.iter().rev().find(|(_, networks)| {
                let then = networks.iter().find(|it| it.id == id);
                then.is_some_and(|it| it.lost.is_none())
            });
            healthy.map_or(0, |(step, _)| step.min(lost.step))
        });
        self.fork(id, at, &change)
    }
}
